"""System checks of the job settings, and of whether a worker runs."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.db import DatabaseError
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateWorker

_WHAT = ("NAME", "USER")


@checks.register
def check_jobs(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """JOB_STALLED_SECONDS and MASTER_DB_DIRECT_URL must make sense."""
    if settings.JOB_POLL_SECONDS * 2 > settings.JOB_STALLED_SECONDS:
        yield checks.Warning(
            f"JOB_STALLED_SECONDS is {settings.JOB_STALLED_SECONDS}, and JOB_POLL_SECONDS "
            f"{settings.JOB_POLL_SECONDS}: live workers can be taken for dead.",
            hint=f"Set JOB_STALLED_SECONDS to at least {2 * settings.JOB_POLL_SECONDS}.",
            id="organizations.W060",
        )
    direct, usual = settings.MASTER_DB_DIRECT, settings.DATABASES["default"]
    if direct and any(str(direct.get(key)) != str(usual.get(key)) for key in _WHAT):
        yield checks.Error(
            "MASTER_DB_DIRECT_URL names a different database or role than the master's: locks "
            "taken there have no effect here.",
            hint="Give it the master's database name and user, and the server's own address.",
            id="organizations.E061",
        )


# Long enough not to warn while a worker restarts.
_WAITING_SECONDS = 300


@checks.register(checks.Tags.database)
def check_workers(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """A worker must run while jobs wait. Runs with `check --database default`."""
    if not databases or "default" not in databases:
        return
    now = timezone.now()
    asked = ProcrastinateEvent.objects.filter(
        type="deferred", job__status="todo", at__lt=now - timedelta(seconds=_WAITING_SECONDS)
    )
    alive = now - timedelta(seconds=settings.JOB_STALLED_SECONDS)
    try:
        waiting = asked.count()
        if not waiting or ProcrastinateWorker.objects.filter(last_heartbeat__gt=alive).exists():
            return
    except DatabaseError:
        return  # Other checks report a server that is down or has no tables.
    yield checks.Warning(
        f"No worker is running, and {waiting} jobs are waiting: e-mails, sign-ups, upkeep.",
        hint="Start `manage.py worker` beside the web servers, and keep it running.",
        id="organizations.W062",
    )
