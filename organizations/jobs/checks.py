"""System checks of what workers rest on."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

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
