"""Strict serializer fields: text, boolean and password, without type conversion."""

from typing import Any

from rest_framework import serializers
from rest_framework.utils import html

from .services import MAX_PASSWORD_LENGTH


class StrictCharField(serializers.CharField):
    """Text. DRF's own would take a number for a name or a password."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    """true or false; of a form also what its widgets send. DRF's own takes 0, "yes" and null."""

    def to_internal_value(self, data: Any) -> bool:
        sent_by_a_form = html.is_html_input(self.root.initial_data)
        if not isinstance(data, bool) and not sent_by_a_form:
            self.fail("invalid", input=data)
        return bool(super().to_internal_value(data))


class PasswordField(StrictCharField):
    """A password as typed: never trimmed, never shown, and no longer than one that is hashed."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", MAX_PASSWORD_LENGTH)
        kwargs.setdefault("write_only", True)
        kwargs.setdefault("trim_whitespace", False)
        kwargs.setdefault("style", {"input_type": "password"})
        super().__init__(**kwargs)
