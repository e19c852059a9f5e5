"""API endpoint for an organization's own audit trail."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django_filters import rest_framework as filters
from django_filters.fields import IsoDateTimeField
from drf_spectacular.utils import extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.pagination import NewestFirst
from accounts.permissions import IsAdmin, IsMember

from . import audit, examples, serializers, tenancy
from .acts import ACTORS
from .models import AuditEntry

_LARGEST_ID = 2**63 - 1


class WholeNumberFilter(filters.NumberFilter):
    """A primary key; what cannot be one is a 400."""

    field_class = forms.IntegerField  # type: ignore[assignment]


class _MomentField(IsoDateTimeField):
    """In UTC: Python reads offsets that PostgreSQL does not, beyond 16 hours."""

    def to_python(self, value: Any) -> datetime | None:
        moment = super().to_python(value)
        try:
            return moment and moment.astimezone(UTC)
        except OverflowError as error:  # Of year 1, or 9999.
            raise ValidationError(self.error_messages["invalid"], code="invalid") from error


class MomentFilter(filters.IsoDateTimeFilter):
    """A time with its offset; what cannot be one is a 400."""

    field_class = _MomentField


class AuditFilter(filters.FilterSet):
    """`?act=login.failed&since=2026-01-01T00:00:00Z&email=carol@test.com`."""

    act = filters.CharFilter(max_length=50)
    actor = filters.ChoiceFilter(choices=[(word, word) for word in ACTORS])
    user_id = WholeNumberFilter(min_value=0, max_value=_LARGEST_ID)
    request_id = filters.CharFilter(max_length=64)
    since = MomentFilter("at", lookup_expr="gte", label="At this time or later.")
    until = MomentFilter("at", lookup_expr="lt", label="Before this time.")
    email = filters.CharFilter(
        method="about", max_length=254, label="About the person who has this address."
    )

    class Meta:
        model = AuditEntry
        fields = ("act", "actor", "user_id", "request_id", "since", "until", "email")

    def about(self, entries: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        """The address is hashed as the trail hashed it, and compared; it is kept nowhere."""
        return entries.filter(person=audit.person(tenancy.get().organization_id, value))


class AuditView(ListAPIView[AuditEntry]):
    """What was done in the caller's organization, newest first."""

    permission_classes = (IsMember, IsAdmin)
    serializer_class = serializers.AuditEntryOutput
    filter_backends = (filters.DjangoFilterBackend,)
    filterset_class = AuditFilter
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[AuditEntry]:
        # In the master, where nothing but this keeps organizations apart.
        if getattr(self, "swagger_fake_view", False):
            return AuditEntry.objects.none()
        return AuditEntry.objects.filter(organization_id=tenancy.get().organization_id)

    @extend_schema(
        operation_id="audit_list",
        summary="What was done in your organization (admins)",
        description="Newest first; `next` leads to older entries, and nothing is shown twice or "
        "left out while new ones come. Persons appear by id and by a hash that `email` compares.",
        examples=examples.AUDIT,
        tags=["organization"],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)
