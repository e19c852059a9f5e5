"""System checks of the job settings, and of whether a worker runs."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.db import DatabaseError
from django.utils import timezone

_WHAT = ("NAME", "USER")


@checks.register
def check_jobs(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """Workers are heard of in time, and the direct way leads to the same database."""
    if settings.JOB_POLL_SECONDS * 2 > settings.JOB_STALLED_SECONDS:
        yield checks.Warning(
            f"JOB_STALLED_SECONDS is {settings.JOB_STALLED_SECONDS}, and JOB_POLL_SECONDS "
            f"{settings.JOB_POLL_SECONDS}: workers that live can be taken for dead.",
            hint=f"Set JOB_STALLED_SECONDS to {2 * settings.JOB_POLL_SECONDS} at least.",
            id="organizations.W060",
        )
    direct, usual = settings.MASTER_DB_DIRECT, settings.DATABASES["default"]
    if direct and any(str(direct.get(key)) != str(usual.get(key)) for key in _WHAT):
        yield checks.Error(
            "MASTER_DB_DIRECT_URL names another database or role than the master's: locks that are "
            "taken there hold nobody up here.",
            hint="Give it the name and the user of the master's, at the server's own address.",
            id="organizations.E061",
        )


# A worker that is being restarted is nothing to warn of.
_WAITING_SECONDS = 300


@checks.register(checks.Tags.database)
def check_workers(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """What was asked for is done by somebody. Runs with `check --database default`."""
    if not databases or "default" not in databases:
        return
    from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateWorker

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
        return  # Of a server that is away, or has no tables yet, other checks tell.
    yield checks.Warning(
        f"No worker runs, and {waiting} jobs wait: mails, sign-ups that were answered 202, upkeep.",
        hint="Start `manage.py worker` beside the web servers, and keep it running.",
        id="organizations.W062",
    )
