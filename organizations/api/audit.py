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

from accounts.api.pagination import NewestFirst
from accounts.api.permissions import IsAdmin, IsMember
from accounts.models import MAX_EMAIL_LENGTH
from organizations import audit, tenancy
from organizations.audit.events import ACTORS
from organizations.models import AuditEntry

from . import examples, serializers

_LARGEST_ID = 2**63 - 1


class WholeNumberFilter(filters.NumberFilter):
    """A primary key; an invalid one is a 400."""

    field_class = forms.IntegerField  # type: ignore[assignment]


class _MomentField(IsoDateTimeField):
    """Converted to UTC: Python accepts offsets beyond 16 hours, which PostgreSQL does not."""

    def to_python(self, value: Any) -> datetime | None:
        moment = super().to_python(value)
        try:
            return moment and moment.astimezone(UTC)
        except OverflowError as error:  # In year 1 or 9999.
            raise ValidationError(self.error_messages["invalid"], code="invalid") from error


class MomentFilter(filters.IsoDateTimeFilter):
    """A time with offset; an invalid one is a 400."""

    field_class = _MomentField


class AuditFilter(filters.FilterSet):
    """`?act=login.failed&since=2026-01-01T00:00:00Z&email=carol@test.com`."""

    act = filters.CharFilter(max_length=50)
    actor = filters.ChoiceFilter(choices=[(word, word) for word in ACTORS])
    user_id = WholeNumberFilter(min_value=0, max_value=_LARGEST_ID)
    request_id = filters.CharFilter(max_length=64)
    since = MomentFilter("at", lookup_expr="gte", label="From this time on.")
    until = MomentFilter("at", lookup_expr="lt", label="Before this time.")
    email = filters.CharFilter(
        method="about",
        max_length=MAX_EMAIL_LENGTH,
        label="About the user with this e-mail address.",
    )

    class Meta:
        model = AuditEntry
        fields = ("act", "actor", "user_id", "request_id", "since", "until", "email")

    def about(self, entries: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        """Compare hashes: the address is hashed as in the audit trail, and not stored."""
        return entries.filter(person=audit.person(tenancy.get().organization_id, value))


class AuditView(ListAPIView[AuditEntry]):
    """Audit entries of the caller's organization, newest first."""

    permission_classes = (IsMember, IsAdmin)
    serializer_class = serializers.AuditEntryOutput
    filter_backends = (filters.DjangoFilterBackend,)
    filterset_class = AuditFilter
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[AuditEntry]:
        # In the master, where only this filter separates organizations.
        if getattr(self, "swagger_fake_view", False):
            return AuditEntry.objects.none()
        return AuditEntry.objects.filter(organization_id=tenancy.get().organization_id)

    @extend_schema(
        operation_id="audit_list",
        summary="Audit trail of your organization (admins)",
        description="Newest first. Follow `next` for older entries; none is repeated or skipped "
        "while new ones arrive. Users appear by id and by a hash, which `email` searches for.",
        examples=examples.AUDIT,
        tags=["organizations"],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)
