"""Serializer fields without type conversion, and serializers whose fields are made once."""

from typing import Any, TypeVar

from django.db.models import Model
from rest_framework import serializers
from rest_framework.utils import html

from accounts.services import MAX_PASSWORD_LENGTH


class StrictCharField(serializers.CharField):
    """Text. DRF's own would accept a number as a name or password."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    """true or false, or a form widget's values. DRF's own accepts 0, "yes" and null."""

    def to_internal_value(self, data: Any) -> bool:
        sent_by_a_form = html.is_html_input(self.root.initial_data)
        if not isinstance(data, bool) and not sent_by_a_form:
            self.fail("invalid", input=data)
        return bool(super().to_internal_value(data))


class PasswordField(StrictCharField):
    """A password as typed: not trimmed, never shown, limited to the length that is hashed."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", MAX_PASSWORD_LENGTH)
        kwargs.setdefault("write_only", True)
        kwargs.setdefault("trim_whitespace", False)
        kwargs.setdefault("style", {"input_type": "password"})
        super().__init__(**kwargs)


M = TypeVar("M", bound=Model)


class OutputSerializer(serializers.ModelSerializer[M]):
    """Read-only output of a model. Its fields are made once for the class, not for each answer.

    For fields that read nothing but the instance: they belong to a serializer without a context.
    Relies on Serializer.to_representation's going through _readable_fields (REST framework 3.18).
    """

    @property
    def _readable_fields(self) -> list[serializers.Field[Any, Any, Any, Any]]:
        kind = type(self)
        if "_made" not in vars(kind):
            kind._made = list(kind().fields.values())
        return kind._made

    _made: list[serializers.Field[Any, Any, Any, Any]]
