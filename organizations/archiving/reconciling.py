"""Finishes or rolls back interrupted archives and thaws."""

import logging
import time

from django.db import Error as DatabaseError
from django.db import connections

from organizations.backups import runs
from organizations.errors import BackupRunning, OrganizationBusy, OrganizationError
from organizations.models import Organization
from organizations.postgres.holding import hold
from organizations.postgres.sessions import answers, open_session
from organizations.tenancy import TooBusy

from . import leftovers
from .archive import settle

logger = logging.getLogger(__name__)
Status = Organization.Status

# Comparing leftovers can mean reading a whole backup, so a worker tries again only after a day.
_AGAIN_SECONDS = 86_400.0
_not_before: dict[int, float] = {}


def reconcile(*, wait_seconds: float) -> tuple[list[str], list[str], list[str], list[str]]:
    """Finish or roll back interrupted archives, and remove leftovers of archived organizations.

    Returns the names of the archived, the reopened, those another process works on, and the failed.
    A failure does not affect the others.
    """
    archived: list[str] = []
    back: list[str] = []
    skipped: list[str] = []
    failed: list[str] = []
    # First those that are being archived: nobody is served there.
    for row in Organization.objects.filter(status__in=Status.archival()).order_by("-status", "pk"):
        if row.status == Status.ARCHIVED and (
            time.monotonic() < _not_before.get(row.pk, 0.0) or not leftovers.exist(row)
        ):
            continue
        try:
            with open_session(new=True) as session:
                hold(session, row, wait_seconds=wait_seconds)
                if row.status == Status.ARCHIVING:
                    settle(session, row)
                    (archived if row.status == Status.ARCHIVED else back).append(row.name)
                elif row.status == Status.ARCHIVED:
                    with runs.locked(row.key, name=row.name):  # No thaw is at work.
                        leftovers.remove(session, row)
        except (OrganizationBusy, BackupRunning):
            skipped.append(row.name)
        except (OrganizationError, TooBusy, DatabaseError) as error:
            connections["default"].close()  # Django would keep its cut connection.
            if not answers():
                raise
            facts = {"organization": row.pk}
            logger.error("archive not reconciled", extra=facts, exc_info=error)
            failed.append(row.name)
            if row.status == Status.ARCHIVED:
                _not_before[row.pk] = time.monotonic() + _AGAIN_SECONDS
    return archived, back, skipped, failed
