"""Django admin for backups: lists them with their state and error. Read-only."""

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from organizations.models import BackupRun, Organization

from .generic import BackupRunModelAdmin
from .lookups import OfferedLookups
from .pages import ActionsOnly


@admin.register(BackupRun)
class BackupRunAdmin(ActionsOnly, OfferedLookups, BackupRunModelAdmin):
    """All backups, newest first. An organization's page has the buttons."""

    list_display = ("started_at", "organization", "state", "size", "verified_at", "error")
    list_filter = (("started_at", admin.DateFieldListFilter), "state")
    search_fields = ("=organization_id",)
    search_help_text = "An organization's name or id"
    ordering = ("-started_at", "-id")
    list_per_page = 50
    # There can be many.
    show_full_result_count = False
    actions = None
    fields = (
        "organization",
        "state",
        "started_at",
        "ended_at",
        "size",
        "encryption_key",
        "folder",
        "verified_at",
        "error_code",
        "error",
    )
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: BackupRun | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[BackupRun]:
        # By key: an id can be another organization's after a restore of the master.
        rows = Organization.objects.filter(key=OuterRef("organization_key"))
        runs: QuerySet[BackupRun] = super().get_queryset(request)
        return runs.annotate(organization_name=Subquery(rows.values("name")[:1]))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[BackupRun], search_term: str
    ) -> tuple[QuerySet[BackupRun], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if term.isascii() and term.isdigit() and len(term) < 19:
            return queryset.filter(organization_id=int(term)), False
        named = Organization.objects.filter(name__icontains=term)
        return queryset.filter(organization_key__in=named.values("key")), False

    @admin.display(description="Organization", ordering="organization_id")
    def organization(self, run: BackupRun) -> str:
        name: str | None = run.organization_name  # type: ignore[attr-defined]
        return name or f"#{run.organization_id}"

    @admin.display(description="Size", ordering="bytes")
    def size(self, run: BackupRun) -> str:
        return filesizeformat(run.bytes) if run.bytes else "–"
