"""Restores many organizations whose database and role are lost, in parallel."""

from collections.abc import Callable, Iterator

from organizations.backups.fleet import Act, Result, in_parallel
from organizations.models import BackupRun, Organization, OrganizationQuerySet
from organizations.postgres.sessions import open_session
from organizations.provisioning import leftovers

from . import lost, switching
from .restore import restore_organization

# How long to wait for a process that is making templates or spare databases.
_CLEANED_WAIT = 10.0


def restore_lost_organizations(
    organizations: OrganizationQuerySet, *, parallel: int
) -> tuple[int, Iterator[Result]]:
    """Restore those whose database and role are both missing, from the newest good backup.

    Returns how many exist and are not changed, and a result for each of the others as it ends. May
    be repeated: restored ones exist then. A failure does not affect the others. Logins and mailed
    links become invalid. Raises InstallationUnclaimed, ServerUnavailable and ServerRefused.
    """
    switching.finish_switches()
    with open_session() as session:
        _ = session.installation
        # A killed restore's leftover has the lost database's name. If it stays, the new one gets
        # another.
        leftovers.clean(session, wait_seconds=_CLEANED_WAIT)
    rows = list(organizations)
    ids = lost.among([row.pk for row in rows])
    work = [(row, None, _restoring(row)) for row in rows if row.pk in ids]
    return len(rows) - len(work), in_parallel(list(work), parallel)


def _restoring(organization: Organization) -> Act:
    def act(goes_on: Callable[[], bool]) -> BackupRun:
        row = restore_organization(organization, only_lost=True, goes_on=goes_on)
        return BackupRun.objects.get(key=row.backup)

    return act
