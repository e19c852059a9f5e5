"""Reads the state of an organization's newest job of a kind from the queue."""

from dataclasses import dataclass, field
from typing import Any

from django.db.models import OuterRef
from procrastinate.contrib.django.models import ProcrastinateJob

from organizations.jobs.models import JobProgress

_STATES = {"todo": "waiting", "doing": "running", "succeeded": "done"}


@dataclass(frozen=True, slots=True)
class Job:
    """state: waiting, running, done, failed, or none: there is none, or its record is gone. step,
    error: as last reported. args: what it was enqueued with."""

    state: str
    job: int | None = None
    step: str = ""
    error: str = ""
    args: dict[str, Any] = field(default_factory=dict)

    @property
    def is_under_way(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running")


def newest_job(task: str, organization_id: int) -> Job:
    """The newest one of this task."""
    jobs = ProcrastinateJob.objects.filter(task_name=task, args__organization_id=organization_id)
    told = JobProgress.objects.filter(pk=OuterRef("pk"))
    told_too = jobs.annotate(step=told.values("step")[:1], error=told.values("error")[:1])
    row = told_too.order_by("-id").values("pk", "status", "args", "step", "error").first()
    if row is None:
        return Job("none")
    state = _STATES.get(row["status"], "failed")
    return Job(state, row["pk"], row["step"] or "", row["error"] or "", row["args"])
