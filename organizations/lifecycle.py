"""Creates, deletes, undeletes, suspends, resumes, renames, restores, clones, archives, thaws and
reconciles organizations.

The API, the commands and Django admin call these functions.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import Error as DatabaseError
from django.db import connections

from accounts.services import hash_password

from .archiving import reconciling as archives
from .archiving.archive import archive_organization as archive_organization
from .archiving.thaw import thaw_organization as thaw_organization
from .backups import runs
from .cloning.clone import check_clone as check_clone
from .cloning.clone import clone_organization as clone_organization
from .deleting.delete import delete_organization as delete_organization
from .deleting.delete import drop_expired as drop_expired
from .deleting.delete import finish_keeping
from .deleting.undelete import find_trashed as find_trashed
from .deleting.undelete import undelete_organization as undelete_organization
from .errors import (
    OrganizationBusy,
    OrganizationError,
    OrganizationExists,
    OrganizationNotFound,
)
from .jobs.models import PendingSignUp
from .migrating.turn import look_at_killed
from .models import (
    KNOWN_AS,
    Organization,
    OrganizationQuerySet,
    known_as_parameters,
)
from .naming import name_key as key_of
from .postgres.fence import fence_pending
from .postgres.holding import hold
from .postgres.roles import drop_disabled
from .postgres.sessions import answers, open_session
from .postgres.sessions import refuse_in_transaction as _refuse_in_transaction
from .provisioning import ceiling, code, leftovers, making
from .provisioning.report import Report
from .provisioning.undoing import undo
from .renaming import rename_organization as rename_organization
from .restoring import switching
from .restoring.beside import check_beside as check_beside
from .restoring.beside import restore_beside as restore_beside
from .restoring.fleet import restore_lost_organizations as restore_lost_organizations
from .restoring.restore import restore_organization as restore_organization
from .restoring.restore import undo_restore as undo_restore
from .suspending import resume_organization as resume_organization
from .suspending import suspend_organization as suspend_organization
from .validators import SignUp, validate_sign_up

logger = logging.getLogger(__name__)

Status = Organization.Status


@dataclass(frozen=True, slots=True)
class Created:
    """A new organization, and the time of each step."""

    organization: Organization
    report: Report


def find_organization(name: str) -> Organization:
    """The usable or archived organization by any spelling of its name, or of a recent former one.

    Raises OrganizationNotFound.
    """
    with connections["default"].cursor() as cursor:
        cursor.execute(_BY_NAME, known_as_parameters(name))
        row = cursor.fetchone()
    if row is None:
        raise OrganizationNotFound(name)
    return Organization.from_db("default", [field.attname for field in _FIELDS], row)


# Raw SQL: lookups are frequent, and the ORM takes longer to build the query than to run it.
_FIELDS = Organization._meta.concrete_fields
_BY_NAME = (
    f"SELECT {', '.join(field.column for field in _FIELDS)} FROM organizations "  # noqa: S608 - columns
    f"WHERE {KNOWN_AS}"
)


def reachable_organizations(
    names: Sequence[str], *, even_archived: bool = False
) -> OrganizationQuerySet:
    """The named organizations, or all: active, suspended and, with even_archived, archived ones.

    Raises OrganizationNotFound, and WrongState for an archived one without even_archived.
    """
    organizations: OrganizationQuerySet = Organization.objects.reachable()
    if even_archived:
        organizations |= Organization.objects.filter(status=Status.ARCHIVED)
    if names:
        find = find_organization if even_archived else find_usable
        organizations = organizations.filter(pk__in=[find(name).pk for name in names])
    return organizations


def find_usable(name: str) -> Organization:
    """As find_organization. Raises WrongState too, if it is archived."""
    found = find_organization(name)
    found.require_usable()
    return found


def create_organization(
    *, name: str, email: str, password: str, password_hash: str | None = None
) -> Created:
    """Create an organization with its role, database, tables and first admin.

    password_hash: the password's, if already known; otherwise it is computed.
    Raises as check_sign_up does, ServerUnavailable and ProvisioningFailed. When it raises,
    everything was undone; if that was impossible, the row says so, and reconcile_orgs undoes it.
    """
    sign_up = check_sign_up(SignUp(name, email, password))
    report = Report()
    # Only the holder of this lock creates, deletes or cleans up this name.
    with open_session() as session, ThreadPoolExecutor(max_workers=1) as worker:
        with report.step("lock"):
            if not session.try_lock(key_of(sign_up.name)):
                raise OrganizationExists(sign_up.name)
        # In parallel: hashing takes about as long as the rest, and releases the GIL.
        hashed = worker.submit(lambda: password_hash or hash_password(sign_up.password))
        return Created(making.make(session, sign_up, hashed.result, report), report)


def check_sign_up(sign_up: SignUp) -> SignUp:
    """The validated and normalised sign-up.

    Raises ValidationError by field (organization_name, email, password), MigrationsIncoherent,
    OrganizationExists, TooManyOrganizations and ProvisioningInTransaction.
    """
    _refuse_in_transaction()
    sign_up = validate_sign_up(sign_up)
    ceiling.refuse_name(sign_up.name)
    return sign_up


def create_reserved_organization(pending: PendingSignUp, *, password_hash: str) -> Created | None:
    """Create the organization of an accepted sign-up: its name is reserved, its password hashed.

    None if an earlier try succeeded, or the sign-up was given up. The sign-up ends in the commit
    that activates the organization. Raises as create_organization does, and OrganizationBusy while
    another process works on the name.
    """
    _refuse_in_transaction()
    code.refuse_incoherent_migrations()
    report = Report()
    with open_session() as session:
        with report.step("lock"):
            session.lock(key_of(pending.name), name=pending.name, timeout_seconds=_RESERVED_WAIT)
        if not PendingSignUp.objects.open().filter(pk=pending.pk).exists():
            return None
        sign_up = SignUp(pending.name, pending.email, password="")
        made = making.make(session, sign_up, lambda: password_hash, report, pending)
        return Created(made, report)


# A worker wrongly taken for dead still holds the lock, until its session ends.
_RESERVED_WAIT = 10.0


def reconcile_organizations(*, wait_seconds: float = 10.0) -> dict[str, list[str]]:
    """Finish or undo interrupted work. Returns names: fenced, undone, deleted, kept, archived,
    recorded, skipped, failed.

    undone: sign-ups undone, archives reopened, restores finished or failed, and leftovers of
    templates, files, backups and roles removed. kept: deleted ones put aside. archived: archives
    finished. recorded: databases read after an interrupted rollback of migrations.

    Fences first, then restores, organizations, those to keep aside, archives, interrupted
    rollbacks, templates and spare databases, files, interrupted backups, and roles left over by
    deletions.
    A row whose lock is held is being worked on: waits `wait_seconds` for it, then skips it. A
    failure does not affect the others, and is retried next time. Raises only if the server is
    unavailable.
    """
    _refuse_in_transaction()
    outcome: dict[str, list[str]] = {
        name: []
        for name in ("fenced", "undone", "deleted", "kept", "archived", "recorded")
        + ("skipped", "failed")
    }
    with open_session() as session:
        _ = session.installation  # Nothing is done in a copy.
    outcome["fenced"], unfenced = fence_pending()
    outcome["failed"] += unfenced
    with _others_go_on("restores not reconciled"):
        finished, left = switching.reconcile()
        outcome["undone"] += finished
        outcome["failed"] += left
    for organization in Organization.objects.unfinished():
        done: str | None = "failed"
        with _others_go_on("organization not reconciled", organization=organization.pk):
            try:
                done = _reconcile_one(organization, wait_seconds=wait_seconds)
            except OrganizationBusy:
                done = "skipped"
        if done:
            outcome[done].append(organization.name)
    with _others_go_on("deleted organizations not put aside"):
        outcome["kept"], busy, unkept = finish_keeping(wait_seconds=wait_seconds)
        outcome["skipped"] += busy
        outcome["failed"] += unkept
    with _others_go_on("archives not reconciled"):
        outcome["archived"], back, busy, left = archives.reconcile(wait_seconds=wait_seconds)
        outcome["undone"] += back
        outcome["skipped"] += busy
        outcome["failed"] += left
    with _others_go_on("interrupted rollbacks of migrations not recorded"):
        outcome["recorded"], unread = look_at_killed()
        outcome["failed"] += unread
    failed = ["templates and spare databases"]
    with _others_go_on("templates and spare databases not reconciled"), open_session() as session:
        dropped, skipped, failed = leftovers.clean(session, wait_seconds=wait_seconds)
        outcome["undone"] += dropped
        outcome["skipped"] += skipped
    outcome["failed"] += failed
    with _others_go_on("files not reconciled"):
        removed, left = leftovers.remove_files()
        outcome["undone"] += removed
        outcome["failed"] += left
    with _others_go_on("backups not reconciled"):
        ended, left = runs.reconcile()
        outcome["undone"] += ended
        outcome["failed"] += left
    with _others_go_on("roles not reconciled"), open_session() as session:
        outcome["undone"] += [f"role {role}" for role in drop_disabled(session)]
    return outcome


@contextmanager
def _others_go_on(message: str, **extra: object) -> Iterator[None]:
    """Log the block's error and continue, unless the server is unavailable for the others too."""
    try:
        yield
    except (OrganizationError, DatabaseError) as error:
        # Django would keep its cut connection.
        connections["default"].close()
        if not answers():
            raise
        logger.error(message, extra=extra, exc_info=error)


def _reconcile_one(organization: Organization, *, wait_seconds: float) -> str | None:
    """What was done about it; None if its maker finished it meanwhile."""
    with open_session() as session:
        try:
            hold(session, organization, wait_seconds=wait_seconds)
        except OrganizationNotFound:
            return None
        if not Organization.objects.unfinished().filter(pk=organization.pk).exists():
            return None
        was_deleting = organization.status == Status.DELETING
        undo(session, organization)
        return "deleted" if was_deleting else "undone"
