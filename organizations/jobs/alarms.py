"""Orders mails to ADMINS about backups that were not verified. A worker sends them."""

from contextlib import suppress

from django.conf import settings
from django.db import transaction
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException

from organizations.errors import ServerUnavailable

TASK = "send_alarm"


def order(backup: str, *, seconds: int) -> None:
    """Enqueue a mail about the backup of this key in so many seconds, in the caller's transaction.

    One waiting already is enough, but one for now does not wait for a later one. Raises
    ServerUnavailable.
    """
    if not settings.ADMINS:
        return
    job = app.tasks[TASK].configure(
        queueing_lock=f"{TASK}:{backup}{':later' if seconds else ''}",
        schedule_in={"seconds": seconds},
    )
    try:
        with suppress(AlreadyEnqueued), transaction.atomic(using="default"):
            job.defer(backup=backup, is_late=bool(seconds))
    except ConnectorException as error:
        raise ServerUnavailable from error
