"""What can be done with organizations. REST, commands and the admin call these. What changes an
Organization is here, but for its sealed secrets (keys.py)."""

import logging
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from django.conf import settings
from django.db import IntegrityError, InterfaceError, OperationalError, connections
from django.utils import timezone

from accounts.services import hash_password

from .audit import record_failure, recorded
from .errors import (
    OrganizationBusy,
    OrganizationExists,
    OrganizationNotFound,
    ProvisioningFailed,
    ProvisioningInTransaction,
    ServerRefused,
    WrongState,
)
from .keys import new_audit_key
from .models import Organization, Server
from .naming import database_name_for, display_name, name_digest, role_name, slug_for, slug_variant
from .naming import name_key as key_of
from .provisioning.database import close_master
from .provisioning.failures import explained
from .provisioning.pipeline import Report, Step, provision, tear_down
from .provisioning.server import ServerSession, open_session
from .sealing import seal
from .sign_up import validate_sign_up

logger = logging.getLogger(__name__)

_WAITED_TOO_LONG = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.ObjectInUse,  # DROP DATABASE waits 5 s for sessions that it may not end.
)
Status = Organization.Status


@dataclass(frozen=True, slots=True)
class Created:
    """A new organization, and how long each step of making it took."""

    organization: Organization
    report: Report


def find_organization(name: str) -> Organization:
    """The usable organization by any spelling of its name. Raises OrganizationNotFound."""
    try:
        # Not first(), which would sort what is one row at most.
        return Organization.objects.usable().get(name_digest=name_digest(name))
    except Organization.DoesNotExist as error:
        raise OrganizationNotFound(name) from error


def create_organization(*, name: str, email: str, password: str) -> Created:
    """An organization with its role, database, tables and first admin.

    Raises ValidationError by field (organization_name, email, password), OrganizationExists,
    ServerUnavailable, ProvisioningFailed, ProvisioningInTransaction. When it raises, what was made
    has been taken back; where even that was impossible the row says so, and reconcile_orgs does it.
    """
    _refuse_in_transaction()
    validate_sign_up(name=name, email=email, password=password)
    name, email = display_name(name), email.strip()
    if Organization.objects.usable().named(name).exists():
        raise OrganizationExists(name)
    with open_session() as session:
        # Whoever holds this lock is the only one who creates, deletes or cleans up this name.
        if not session.try_lock(key_of(name)):
            raise OrganizationExists(name)
        try:
            organization = _insert(session, name=name, email=email)
        except (OperationalError, InterfaceError) as error:
            _take_back_row(session, name, error)
            raise
        report = Report()
        try:
            provision(
                session,
                organization,
                password_hash=hash_password(password),
                report=report,
                done=lambda step: _record_step(organization, step),
            )
            _activate(organization)
        except BaseException as error:
            record_failure(organization, error)
            _compensate(session, organization)
            raise explained(organization, error) from error
    logger.info("organization created", extra={"organization": organization.pk})
    return Created(organization, report)


def _insert(session: ServerSession, *, name: str, email: str) -> Organization:
    """The row, committed before anything exists that would be an orphan without it."""
    for leftover in Organization.objects.live().named(name):
        if leftover.is_usable:
            raise OrganizationExists(name)
        # Its lock is ours, so whoever made it is dead: finish that story first.
        _undo(session, leftover)
    opaque = settings.ORG_DATABASE_NAMES == "opaque"
    slug = slug_for(key_of(name))
    # Somebody's readable slug can look like a hashed one, and the server can hold databases of
    # others: neither is a reason to refuse this name.
    for _ in range(3):
        database = database_name_for(slug, opaque=opaque)
        if not session.database_owner(database):
            with suppress(IntegrityError):
                return Organization.objects.create(
                    name=name,
                    name_digest=name_digest(name),
                    slug=slug,
                    admin_email=email,
                    server=Server.objects.get_or_create(name=Server.DEFAULT)[0],
                    database_name=database,
                    role_name=role_name(),
                    sealed_password=seal(secrets.token_urlsafe(32)),
                    sealed_audit_key=new_audit_key(),
                )
        slug = slug_variant(slug_for(key_of(name)))
    raise OrganizationExists(name)


def _record_step(organization: Organization, step: Step) -> None:
    organization.provisioned = step
    Organization.objects.filter(pk=organization.pk).update(provisioned=step)


def _activate(organization: Organization) -> None:
    """Open the organization. Fails where reconcile_orgs took the row over in the meantime."""
    with recorded("organization.created", organization):
        if not _move(organization, Status.ACTIVE, only_from=(Status.PROVISIONING,)):
            reason = "it was cleaned up while it was being made."
            raise ProvisioningFailed(organization.name, reason)


def _move(
    organization: Organization,
    status: Organization.Status,
    *,
    only_from: Collection[str],
    reason: str = "",
) -> bool:
    """Change the status in one statement, if it is still one of those expected."""
    now = timezone.now()
    moved = Organization.objects.filter(pk=organization.pk, status__in=only_from).update(
        status=status, status_reason=reason, status_changed_at=now
    )
    if moved:
        organization.status, organization.status_reason = status, reason
        organization.status_changed_at = now
    return bool(moved)


def _compensate(session: ServerSession, organization: Organization) -> None:
    """Take back what was made; never raises, since the caller has the cause in hand."""
    try:
        try:
            _undo(session, organization)
        except (psycopg.OperationalError, OperationalError, InterfaceError) as error:
            if isinstance(error.__cause__ or error, _WAITED_TOO_LONG):
                raise  # The next try would wait as long.
            # A cut session is noticed when it is used, and its lock is gone with it. Django keeps
            # a cut connection of its own until the request ends.
            session.connection.close()
            connections["default"].close()
            with open_session() as fresh:
                fresh.lock(key_of(organization.name), name=organization.name, timeout_seconds=5)
                _undo(fresh, organization)
    except Exception:
        # The row stays, and reconcile_orgs or the next sign-up under this name finishes it.
        logger.exception("compensation failed", extra={"organization": organization.pk})


def _take_back_row(session: ServerSession, name: str, cause: BaseException) -> None:
    """Remove the row of an INSERT whose answer was lost: it may have been committed."""
    if isinstance(cause.__cause__, _WAITED_TOO_LONG):
        return
    session.connection.close()
    connections["default"].close()
    try:
        with open_session() as fresh:
            fresh.lock(key_of(name), name=name, timeout_seconds=5)
            for row in Organization.objects.unfinished().named(name):
                _undo(fresh, row)
    except Exception:
        # It stays, as above.
        logger.exception("compensation failed", extra={"step": Step.NOTHING})


def _undo(session: ServerSession, organization: Organization) -> None:
    """Take an unfinished organization back, or a deletion to its end. The lock must be held."""
    organization.refresh_from_db()
    if organization.is_usable or organization.status == Status.DELETED:
        return
    if organization.status == Status.DELETING:
        _finish_deletion(session, organization)
        return
    # Claims the row: a provisioning that lost its lock and still runs can no longer activate it,
    # and one that did so just now keeps what it made.
    reason = organization.status_reason or f"stopped behind step {organization.provisioned!r}"
    if not _move(organization, Status.FAILED, only_from=(organization.status,), reason=reason):
        return
    tear_down(session, organization)
    with recorded("organization.undone", organization):
        Organization.objects.filter(pk=organization.pk, status=Status.FAILED).delete()
    logger.info("organization undone", extra={"organization": organization.pk})


def delete_organization(organization: Organization) -> None:
    """Drop the organization's database and role; its row stays as a tombstone, its name is free.

    Raises OrganizationNotFound, OrganizationBusy, ServerUnavailable, ServerRefused and
    ProvisioningInTransaction. May be called again.
    """
    _refuse_in_transaction()
    with open_session() as session:
        if not session.try_lock(key_of(organization.name)):
            raise OrganizationBusy(organization.name)
        try:
            organization.refresh_from_db()
        except Organization.DoesNotExist as error:
            raise OrganizationNotFound(organization.name) from error
        if organization.status == Status.DELETED:
            return
        if organization.is_usable:
            # Before anything is dropped: a deletion that cannot be recorded does not begin.
            with recorded("organization.deleting", organization):
                _move(organization, Status.DELETING, only_from=Status.usable())
        _undo(session, organization)
        if organization.is_usable:
            # Suspended or resumed between the two statements above.
            raise OrganizationBusy(organization.name)


def _finish_deletion(session: ServerSession, organization: Organization) -> None:
    tear_down(session, organization)
    now = timezone.now()
    with recorded("organization.deleted", organization):
        Organization.objects.filter(pk=organization.pk).update(
            status=Status.DELETED,
            status_changed_at=now,
            sealed_password="",
            sealed_audit_key="",
            admin_email="",
        )
    organization.status = Status.DELETED
    logger.info("organization deleted", extra={"organization": organization.pk})


def suspend_organization(organization: Organization, *, reason: str = "") -> None:
    """Keep its people out from their next request on. Raises WrongState unless it is active."""
    with recorded("organization.suspended", organization):
        if not _move(organization, Status.SUSPENDED, only_from=(Status.ACTIVE,), reason=reason):
            organization.refresh_from_db()
            raise WrongState(organization.name, status=organization.status, wanted=Status.ACTIVE)
    logger.info("organization suspended", extra={"organization": organization.pk})


def resume_organization(organization: Organization) -> None:
    """Let its people in again. Raises WrongState unless it is suspended."""
    with recorded("organization.resumed", organization):
        if not _move(organization, Status.ACTIVE, only_from=(Status.SUSPENDED,)):
            organization.refresh_from_db()
            raise WrongState(organization.name, status=organization.status, wanted=Status.SUSPENDED)
    logger.info("organization resumed", extra={"organization": organization.pk})


def reconcile_organizations(*, wait_seconds: float = 10.0) -> dict[str, list[str]]:
    """Finish or undo what died half-way. Returns names under undone, deleted, skipped and failed.

    Closes the master to PUBLIC too, where that is ours to do: each server start comes by here.
    A row whose lock is held belongs to somebody at work: waits `wait_seconds` for it, then skips.
    One that fails leaves the others alone, and is tried again next time. Raises ServerUnavailable
    when no session can be opened.
    """
    _refuse_in_transaction()
    outcome: dict[str, list[str]] = {"undone": [], "deleted": [], "skipped": [], "failed": []}
    with open_session() as session:
        close_master(session)
    for organization in Organization.objects.unfinished():
        try:
            done = _reconcile_one(organization, wait_seconds=wait_seconds)
        except OrganizationBusy:
            done = "skipped"
        except ServerRefused as error:
            logger.error(
                "organization not reconciled",
                extra={"organization": organization.pk},
                exc_info=error,
            )
            done = "failed"
        if done:
            outcome[done].append(organization.name)
    return outcome


def _reconcile_one(organization: Organization, *, wait_seconds: float) -> str | None:
    """What was done about it; None where its maker finished it in the meantime."""
    key = key_of(organization.name)
    with open_session() as session:
        session.lock(key, name=organization.name, timeout_seconds=wait_seconds)
        if not Organization.objects.unfinished().filter(pk=organization.pk).exists():
            return None
        was_deleting = organization.status == Status.DELETING
        _undo(session, organization)
        return "deleted" if was_deleting else "undone"


def _refuse_in_transaction() -> None:
    if connections["default"].in_atomic_block:
        raise ProvisioningInTransaction
