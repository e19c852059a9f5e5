"""Django admin for the audit trail: read, filter, search and export as CSV."""

import json
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from organizations.audit.events import ACTORS, ACTS
from organizations.document import csv_line
from organizations.models import AuditEntry, Organization
from organizations.tenancy import trail

from .generic import AuditEntryModelAdmin
from .lookups import OfferedLookups

COLUMNS = (
    "id",
    "at",
    "act",
    "organization_id",
    "organization_name",
    "actor",
    "actor_id",
    "user_id",
    "person",
    "address",
    "request_id",
    "facts",
)
_ROWS_AT_A_TIME = 2_000
_RECENT_ENTRIES = 1_000
_CHOICES = 30


class _WordFilter(admin.SimpleListFilter):
    """Filter by one of a few fixed words, without a query."""

    words: tuple[str, ...] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, word) for word in self.words]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        return queryset.filter(**{str(self.parameter_name): self.value()})


class ActFilter(_WordFilter):
    title = parameter_name = "act"
    words = ACTS


class ActorFilter(_WordFilter):
    title = parameter_name = "actor"
    words = ACTORS


class OrganizationFilter(admin.SimpleListFilter):
    """Filter by the organizations of the newest entries, and the chosen one; search for others."""

    title = "organization"
    parameter_name = "organization"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        recent = AuditEntry.objects.order_by("-id")[:_RECENT_ENTRIES]
        wanted = list(dict.fromkeys(recent.values_list("organization_id", flat=True)))[:_CHOICES]
        if (chosen := self.value()) and _is_id(chosen):
            wanted.append(int(chosen))
        named = Organization.objects.filter(pk__in=[each for each in wanted if each is not None])
        return [(str(each.pk), each.name) for each in named.order_by("name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        return queryset.filter(organization_id=int(value)) if _is_id(value) else queryset.none()


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


@admin.register(AuditEntry)
class AuditEntryAdmin(OfferedLookups, AuditEntryModelAdmin):
    """The whole trail, newest first, read-only."""

    list_display = (
        "at",
        "act",
        "organization",
        "actor",
        "actor_id",
        "user_id",
        "address",
        "request_id",
        "facts",
    )
    list_filter = (("at", admin.DateFieldListFilter), ActorFilter, ActFilter, OrganizationFilter)
    search_fields = ("=request_id",)
    search_help_text = "A request's id, an organization's name, or a person's hash"
    ordering = ("-id",)
    list_per_page = 50
    # Counting all of it would become slow.
    show_full_result_count = False
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        name = Organization.objects.filter(pk=OuterRef("organization_id")).values("name")[:1]
        entries: QuerySet[AuditEntry] = super().get_queryset(request)
        return entries.annotate(organization_name=Subquery(name))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEntry], search_term: str
    ) -> tuple[QuerySet[AuditEntry], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        named = Organization.objects.filter(name__icontains=term).values("pk")
        wanted = Q(request_id=term) | Q(person=term.lower()) | Q(organization_id__in=named)
        return queryset.filter(wanted), False

    @admin.display(description="Organization", ordering="organization_id")
    def organization(self, entry: AuditEntry) -> str:
        name: str | None = entry.organization_name  # type: ignore[attr-defined]
        if name is None:
            return "–" if entry.organization_id is None else f"#{entry.organization_id}"
        return name

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export)
        return [
            path("export/", export, name="organizations_auditentry_export"),
            *super().get_urls(),
        ]

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """The filtered list as CSV. The export itself is recorded."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            # Django's own change list, so that filters mean the same as on the page.
            entries = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            return HttpResponseRedirect(reverse("admin:organizations_auditentry_changelist"))
        filters = sorted(name for name, value in request.GET.items() if value)
        trail.record("audit.exported", organization_id=None, facts={"filters": filters})
        name = f"audit-{timezone.now():%Y%m%dT%H%M%SZ}.csv"
        return StreamingHttpResponse(
            _lines(entries),
            content_type="text/csv; charset=utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="{name}"',
                "Cache-Control": "no-store",
            },
        )


def _lines(entries: QuerySet[AuditEntry]) -> Iterator[bytes]:
    yield csv_line(COLUMNS).encode()
    for row in entries.values_list(*COLUMNS).iterator(chunk_size=_ROWS_AT_A_TIME):
        yield csv_line(map(_text, row)).encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
