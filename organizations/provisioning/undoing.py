"""Deletes organizations, rolls back unfinished ones, and changes their status."""

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone

from organizations.audit import recorded
from organizations.errors import FilesKept
from organizations.models import BackupRun, Erasure, FormerName, Organization, Restore, StoredAnswer
from organizations.naming import name_key as key_of
from organizations.postgres import identity
from organizations.postgres.databases import drop
from organizations.postgres.holding import hold
from organizations.postgres.identity import Expected
from organizations.postgres.sessions import ServerSession, open_session
from organizations.postgres.trouble import is_servers
from organizations.tenancy import registry, storage

from . import media
from .kept import drop_kept

logger = logging.getLogger(__name__)

Status = Organization.Status


def change_status(
    organization: Organization,
    status: Organization.Status,
    *,
    only_from: Collection[str],
    reason: str = "",
    message: str = "",
    **facts: Any,
) -> bool:
    """Change the status in one statement, if it is still one of those expected.

    reason: for staff. message: for its users. facts: other fields to set with it.
    """
    values = {
        "status": status,
        "status_reason": reason,
        "status_message": message,
        "status_changed_at": timezone.now(),
        **facts,
    }
    moved = Organization.objects.filter(pk=organization.pk, status__in=only_from).update(**values)
    if moved:
        for name, value in values.items():
            setattr(organization, name, value)
    return bool(moved)


def compensate(session: ServerSession, organization: Organization) -> None:
    """Undo what was created; never raises, since the caller reports the cause."""
    try:
        try:
            undo(session, organization)
        except (psycopg.Error, DatabaseError) as error:
            if not is_servers(error):
                raise  # It was refused, and would be again.
            # A cut session is noticed only when used, and its lock is gone with it. Django keeps
            # its cut connection until the request ends.
            session.connection.close()
            connections["default"].close()
            with open_session(new=True) as fresh:
                hold(fresh, organization, wait_seconds=5)
                undo(fresh, organization)
    except Exception:
        # The row stays, and reconcile_orgs or the next sign-up under this name finishes it.
        logger.exception("compensation failed", extra={"organization": organization.pk})


def take_back_row(session: ServerSession, name: str, cause: BaseException) -> None:
    """Remove the row of an INSERT whose answer was lost, since it may have been committed."""
    if not is_servers(cause):
        return
    session.connection.close()
    connections["default"].close()
    try:
        with open_session(new=True) as fresh:
            fresh.lock(key_of(name), name=name, timeout_seconds=5)
            for row in Organization.objects.unfinished().named(name):
                undo(fresh, row)
    except Exception:
        # It stays, as above.
        logger.exception("compensation failed", extra={"step": Organization.Step.NOTHING})


def undo(session: ServerSession, organization: Organization) -> None:
    """Undo an unfinished organization, or finish a deletion. The lock must be held.

    Raises DatabaseKept if server and row disagree; then nothing is done. Raises FilesKept.
    """
    organization.refresh_from_db()
    if organization.status in (*Status.taken(), Status.DELETED):
        return
    if organization.status == Status.DELETING:
        _finish_deletion(session, organization)
        return
    # Checked before the row is changed: an organization that was in use does not change.
    identity.certain(session, expected(organization))
    # Claims the row: a provisioning that lost its lock and still runs can no longer activate it,
    # and one that did so just now keeps what it made.
    reason = organization.status_reason or f"stopped after step {organization.provisioned!r}"
    if not change_status(
        organization, Status.FAILED, only_from=(organization.status,), reason=reason
    ):
        return
    _tear_down(session, organization)
    # A clone has files before it is in use. Without the row nobody would know whose they are.
    if organization.cloned_from is not None and not media.is_here():
        raise FilesKept(organization)
    has_files = storage.folders_of(organization.key)
    is_dead = has_files and organization.key not in identity.living_keys()
    if is_dead and not storage.remove(organization.key):
        raise FilesKept(organization)
    with recorded("organization.undone", organization):
        Organization.objects.filter(pk=organization.pk, status=Status.FAILED).delete()
    logger.info("organization undone", extra={"organization": organization.pk})


def expected(organization: Organization) -> Expected:
    """What the row says about its database."""
    return identity.expected_of(
        organization.name,
        key=organization.key,
        role=organization.role_name,
        database=organization.database_name,
        status=organization.status,
        deletion=organization.deletion,
        was_aside=organization.kept_until is not None or organization.status == Status.ARCHIVING,
        has_archive=organization.archived_backup_id is not None,
    )


def _tear_down(session: ServerSession, organization: Organization) -> None:
    found = identity.certain(session, expected(organization))
    registry.forget(organization.tenant.alias)
    drop(session, found)


def _finish_deletion(session: ServerSession, organization: Organization) -> None:
    if media.is_elsewhere():
        raise FilesKept(organization)  # The erasure record says that they are gone.
    _tear_down(session, organization)
    # What restores kept goes with it: the erasure record says that nothing is left.
    for row in Restore.objects.keeping().filter(organization_key=organization.key):
        drop_kept(session, row)
    # reconcile_orgs later removes what cannot be removed now: leftovers.py.
    # Not the files of an organization that was restored under this key, which an older master does
    # not know.
    if organization.key not in identity.living_keys():
        storage.remove(organization.key)
    now = timezone.now()
    until = _backups_until(organization, now=now)
    facts = {"backups_until": until.isoformat()} if until else {}
    with recorded("organization.deleted", organization, facts):
        Erasure.objects.update_or_create(
            organization_key=organization.key,
            defaults={
                "organization_id": organization.pk,
                "deleted_at": organization.status_changed_at,
                "erased_at": now,
                "backups_until": until,
                "backups_gone_at": None,
            },
        )
        Organization.objects.filter(pk=organization.pk).update(
            status=Status.DELETED,
            status_changed_at=now,
            sealed_password="",
            sealed_audit_key="",
            admin_email="",
            kept_until=None,
            status_before="",
            archived_backup=None,
            archived_from="",
        )
        # Its former names are free, as its name is.
        FormerName.objects.filter(organization_id=organization.pk).delete()
        StoredAnswer.objects.forget(organization.pk)
    organization.status = Status.DELETED
    logger.info("organization deleted", extra={"organization": organization.pk})


def _backups_until(organization: Organization, *, now: datetime) -> datetime | None:
    """When the last of its backups goes; None if there are none."""
    stored = BackupRun.objects.filter(organization_key=organization.key).exclude(folder="")
    days = timedelta(days=settings.BACKUP_KEEP_DELETED_DAYS)
    return now + days if stored.exists() else None
