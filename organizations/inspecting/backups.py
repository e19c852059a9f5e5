"""Reports organizations whose newest backup failed, is bad, or was not verified."""

import shlex
from collections.abc import Collection, Iterator

from django.conf import settings

from organizations.backups import due
from organizations.document import visible
from organizations.models import BackupRun, Organization

from .catalog import Seen
from .verdicts import Kind, Problem

State = BackupRun.State


def newest(page: Collection[Seen]) -> dict[str, BackupRun]:
    """The newest ended backup of each, by the organization's key."""
    ended = (State.GOOD, State.FAILED, State.BAD)
    runs = BackupRun.objects.filter(organization_key__in=[seen.key for seen in page])
    found = runs.filter(state__in=ended).order_by("organization_key", "-started_at", "-id")
    return {run.organization_key: run for run in found.distinct("organization_key")}


def overdue(page: Collection[Seen]) -> set[str]:
    """The keys of those whose backups were not verified for too long."""
    keys = [seen.key for seen in page]
    return set(due.overdue().filter(key__in=keys).values_list("key", flat=True))


def of_verifications(seen: Seen) -> Problem:
    """None of its good backups was verified recently enough."""
    days = 2 * settings.BACKUP_VERIFY_DAYS
    what = f"none of its backups was verified in the last {days} days"
    return Problem(Kind.BACKUP, what, _command("verify_backups", seen))


def of_backup(seen: Seen, run: BackupRun | None) -> Iterator[Problem]:
    """Why its newest backup failed or was refused, as recorded.

    An obstacle in its database is named, such as `row security`. run: the newest ended one.
    """
    if run is None or not run.error_code or seen.status not in Organization.Status.usable():
        return
    # It can quote a table's name, which is a stranger's text.
    why = f"{run.error_code}: {visible(run.error)}"
    if run.state == State.FAILED:
        what = f"its last backup, from {run.started_at:%Y-%m-%d %H:%M}, failed: {why}"
        yield Problem(Kind.BACKUP, what, f"remove the cause, then {_command('backup_orgs', seen)}")
    elif run.state == State.BAD:
        remedy = f"{_command('backup_orgs', seen)}; see docs/backups.md, Verifying"
        yield Problem(Kind.BACKUP, f"its newest backup is bad: {why}", remedy)
    else:
        what = f"its newest backup could not be verified: {why}"
        remedy = f"remove the cause, then {_command('verify_backups', seen)}"
        yield Problem(Kind.BACKUP, what, remedy)


def _command(name: str, seen: Seen) -> str:
    return shlex.join(["manage.py", name, "--", seen.name])
