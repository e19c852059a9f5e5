"""Django admin for background jobs: state, error, cancel and retry."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob

from organizations.background import control
from organizations.errors import OrganizationError
from organizations.jobs.frame import lock_of
from organizations.jobs.models import Job, JobProgress, PendingSignUp
from organizations.models import Organization
from organizations.tasks import QUEUES

from .lookups import OfferedLookups
from .pages import ActionsOnly
from .record import RecordedAdmin

# Replaces Procrastinate's own page, whose actions do not know about waiting sign-ups.
if admin.site.is_registered(ProcrastinateJob):
    admin.site.unregister(ProcrastinateJob)

_MOST_NAMED = 100

if TYPE_CHECKING:
    _Changelist = Any


class KindFilter(admin.SimpleListFilter):
    """Filter by task, without a query."""

    title = parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return sorted((name, name) for name, task in app.tasks.items() if task.queue in QUEUES)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(task_name=self.value()) if self.value() else queryset


@admin.register(Job)
class JobAdmin(ActionsOnly, OfferedLookups, RecordedAdmin):
    """Jobs, newest first, read-only; they can be cancelled and retried."""

    list_display = (
        "id",
        "kind",
        "organization",
        "state",
        "tries",
        "progress",
        "error",
        "waits_until",
        "told_at",
    )
    list_filter = ("status", KindFilter)
    search_fields = ("=id",)
    search_help_text = "A job's id, or an organization's name"
    ordering = ("-id",)
    list_per_page = 50
    # There can be many.
    show_full_result_count = False
    actions = ("cancel", "retry")
    fields = (*list_display, "queue_name", "lock", "args", "history")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Job, form: Any, change: bool) -> None:
        """Writes nothing: every field is read-only."""

    def get_changelist_instance(self, request: HttpRequest) -> "_Changelist":
        """The page's rows, with the facts missing in Procrastinate's table: three queries."""
        changelist = super().get_changelist_instance(request)
        _note_facts(list(changelist.result_list))
        return changelist

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Job | None:
        job: Job | None = super().get_object(request, object_id, from_field)
        if job is not None:
            _note_facts([job])
        return job

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Job], search_term: str
    ) -> tuple[QuerySet[Job], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        named = Organization.objects.filter(name__icontains=term).order_by("-pk")
        locks = [lock_of(pk) for pk in named.values_list("pk", flat=True)[:_MOST_NAMED]]
        asked = PendingSignUp.objects.filter(name__icontains=term).order_by("-pk")
        wanted = Q(lock__in=locks)
        wanted |= Q(pk__in=list(asked.values_list("job_id", flat=True)[:_MOST_NAMED]))
        if term.isascii() and term.isdigit() and len(term) < 19:
            wanted |= Q(pk=int(term))
        return queryset.filter(wanted), False

    @admin.display(description="Kind", ordering="task_name")
    def kind(self, job: Job) -> str:
        return job.task_name

    @admin.display(description="Organization", ordering="lock")
    def organization(self, job: Job) -> str:
        return job.organization_name or "–"

    @admin.display(description="State", ordering="status")
    def state(self, job: Job) -> str:
        asked = job.status == "doing" and job.abort_requested
        return "stopping" if asked else job.status

    @admin.display(description="Tries", ordering="attempts")
    def tries(self, job: Job) -> int:
        # Procrastinate counts a try when it has ended.
        return job.attempts + (job.status == "doing")

    @admin.display(description="Progress")
    def progress(self, job: Job) -> str:
        told = job.told
        if told is None:
            return "–"
        return f"{told.step}: {told.done} of {told.total}" if told.total else told.step

    @admin.display(description="Error")
    def error(self, job: Job) -> str:
        return job.told.error if job.told else ""

    @admin.display(description="Scheduled at", ordering="scheduled_at")
    def waits_until(self, job: Job) -> Any:
        return (job.status == "todo" and job.scheduled_at) or "–"

    @admin.display(description="Last update")
    def told_at(self, job: Job) -> Any:
        return job.told.updated_at if job.told else "–"

    @admin.display(description="History")
    def history(self, job: Job) -> str:
        events = ProcrastinateEvent.objects.filter(job_id=job.pk).order_by("id")
        rows = ((f"{at:%Y-%m-%d %H:%M:%S}", what) for at, what in events.values_list("at", "type"))
        return format_html_join("", "{} {}<br>", rows)

    @admin.action(
        permissions=["change"],
        description="Cancel (a running job stops after its current step)",
    )
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._each(request, queryset, control.cancel, "Cancelled")

    @admin.action(permissions=["change"], description="Retry failed jobs")
    def retry(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._each(request, queryset, control.retry, "Retried")

    def _each(
        self, request: HttpRequest, queryset: QuerySet[Job], act: Callable[[int], None], verb: str
    ) -> None:
        for job in queryset:
            try:
                with transaction.atomic(using="default"):
                    act(job.pk)
                    self.log_change(request, job, f"{verb}.")
            except OrganizationError as error:
                messages.error(request, str(error))
            else:
                messages.success(request, f"{verb} job {job.pk}.")


def _note_facts(jobs: Sequence[Job]) -> None:
    told = JobProgress.objects.in_bulk([job.pk for job in jobs])
    asked = PendingSignUp.objects.filter(job_id__in=[job.pk for job in jobs])
    sign_ups = dict(asked.values_list("job_id", "name"))
    ids = {job.pk: job.args.get("organization_id") for job in jobs}
    known = Organization.objects.filter(pk__in=[each for each in ids.values() if each])
    names = dict(known.values_list("pk", "name"))
    for job in jobs:
        job.told = told.get(job.pk)
        job.organization_name = names.get(ids[job.pk]) or sign_ups.get(job.pk, "")
