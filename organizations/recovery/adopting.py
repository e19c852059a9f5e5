"""Restores an organization whose database exists but whose row is missing (adopt_org).

The content is copied into a new database with a new role. What the old owner left there (functions
that run as their owner, grants, settings) had its rights, and loses them; so does what code of
theirs sets while it is copied. The old database is kept, closed.
"""

import logging
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta

from django.conf import settings
from django.db import connections, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from psycopg import sql

from accounts.validators import check_email, check_fields
from organizations.audit import recorded
from organizations.errors import (
    AdoptionRefused,
    CopyFailed,
    OrganizationBusy,
    OrganizationExists,
    SessionsRemain,
)
from organizations.models import Erasure, FormerName, Organization, Restore, Server, random_key
from organizations.naming import display_name, name_digest, role_name, slug_variant
from organizations.naming import name_key as key_of
from organizations.postgres import aside, identity, programs, transfer
from organizations.postgres.databases import ensure_database, reset_settings
from organizations.postgres.fence import end_sessions, fence_by
from organizations.postgres.holding import hold
from organizations.postgres.identity import Expected, Identity, State
from organizations.postgres.regaining import regain
from organizations.postgres.roles import ensure_role, read_only, set_password
from organizations.postgres.sessions import ServerSession, open_session
from organizations.provisioning.kept import NOTHING
from organizations.provisioning.names import free_database_name, free_slug
from organizations.provisioning.undoing import change_status, compensate, expected
from organizations.secrets import new_audit_key, seal
from organizations.validators import validate_name

logger = logging.getLogger(__name__)
Status = Organization.Status


@dataclass(frozen=True)
class _Source:
    """The database to adopt, and whose it is by its role's identity."""

    database: str
    role: str
    identity: Identity


def adopt_organization(
    *, database: str, name: str, email: str, undelete: bool = False
) -> Organization:
    """Restore the database's organization into a new database, with this name and address.

    undelete: also a deleted one. Users, passwords and logins are kept, and the id unless it is
    taken. Raises ValidationError by field, OrganizationExists, AdoptionRefused, OrganizationBusy,
    SessionsRemain, CopyFailed, ProgramMissing, ProgramTooOld, ProgramTooNew, InstallationUnclaimed,
    ServerUnavailable and ServerRefused. If it raises, the old database is unchanged, except for its
    role's password; the row that it replaces may be gone.
    """
    _validate(name=name, email=email)
    name, email = display_name(name), email.strip()
    with open_session() as session:
        if not session.try_lock(key_of(name)):
            raise OrganizationExists(name)
        # No organization has this key. If two processes adopt one database, the second fails.
        if not session.try_lock(f"\x00{database}"):
            raise OrganizationBusy(name)
        source = _find(session, database, undelete=undelete)
        server = session.connection.info.server_version // 10_000
        client = programs.major_version("pg_dump", server=server)
        programs.major_version("pg_restore", server=server, at_least=client)
        if Organization.objects.live().named(name).exclude(key=source.identity.key).exists():
            raise OrganizationExists(name)
        _shut_replaced(session, source)
        row = _insert(session, source, name=name, email=email)
        try:
            _bring_back(session, row, source)
            _fill(session, row, source)
            _open(session, row, source)
        except BaseException:
            compensate(session, row)
            _keep_again(row, source)
            raise
    logger.info("organization adopted", extra={"organization": row.pk})
    return row


def _validate(*, name: str, email: str) -> None:
    check_fields(
        organization_name=lambda: validate_name(name), email=lambda: check_email(email.strip())
    )


def _find(session: ServerSession, database: str, *, undelete: bool) -> _Source:
    owner = session.database_owner(database)
    if owner is None:
        raise AdoptionRefused(database, "there is no such database")
    found = identity.find(session, role=owner, database=database)
    whose = found.identity
    if whose is None and found.oid is not None and owner == session.user:
        owner, whose = identity.kept_aside().get(found.oid, (owner, None))
    if whose is None:
        raise AdoptionRefused(database, f"its owner {owner} has no identity")
    if whose.installation != session.installation:
        raise AdoptionRefused(database, "it belongs to another installation")
    if found.oid not in whose.databases:
        raise AdoptionRefused(database, "it is not the database that was created")
    if whose.state == State.ASIDE and Restore.objects.keeping().filter(key=whose.key).exists():
        why = "a restore keeps it: manage.py restore_org --undo brings it back"
        raise AdoptionRefused(database, why)
    if Restore.objects.switching(whose.key).exists():
        raise AdoptionRefused(database, "a restore of it is not finished: manage.py reconcile_orgs")
    if whose.state == State.MADE:
        raise AdoptionRefused(database, "it was never in use: it is half made, or a spare")
    if whose.state == State.MOVED:
        raise AdoptionRefused(database, "its content was already moved")
    row = Organization.objects.filter(key=whose.key).first()
    if row is not None:
        hold(session, row)
    if row is not None and row.is_usable and _is_in_order(session, row):
        raise AdoptionRefused(database, f"it is the database of {row.name!r}, which is fine")
    if row is not None and row.status == Status.TRASHED and _is_in_order(session, row):
        raise AdoptionRefused(database, f"it is kept: manage.py undelete_org --id {row.pk}")
    # If they disagree, the master is from before that archive was undone or thawed.
    if (
        row is not None
        and row.status == Status.ARCHIVING
        and not identity.disagreement(whose, expected(row), installation=session.installation)
    ):
        raise AdoptionRefused(database, "it is being archived: manage.py reconcile_orgs")
    was_deleted = whose.state in (State.ASIDE, State.DELETING) or (
        row is not None and row.status in (Status.TRASHED, Status.DELETED, Status.DELETING)
    )
    if was_deleted and not undelete:
        raise AdoptionRefused(
            database, "its organization was deleted. Use --undelete to restore it"
        )
    return _Source(database, owner, whose)


def _is_in_order(session: ServerSession, row: Organization) -> bool:
    """Whether the row's database exists and is its own. A restored row can name a moved one."""
    found = identity.find(session, role=row.role_name, database=row.database_name)
    why = identity.disagreement(found.identity, expected(row), installation=session.installation)
    owners = (row.role_name, session.user) if row.kept_until else (row.role_name,)
    return found.owner in owners and not why


def _shut_replaced(session: ServerSession, source: _Source) -> None:
    """Suspend the row that the new one replaces. Its database and role can be others than those to
    adopt, and requests still use them. Raises SessionsRemain."""
    for row in Organization.objects.filter(key=source.identity.key).exclude(status=Status.DELETED):
        if row.status == Status.ACTIVE:
            with recorded("organization.suspended", row):
                change_status(
                    row, Status.SUSPENDED, only_from=(Status.ACTIVE,), reason="being adopted"
                )
        fence_by(session, row)


def _insert(session: ServerSession, source: _Source, *, name: str, email: str) -> Organization:
    """The row of the new database, which reconcile_orgs removes if this process dies."""
    live = Organization.objects.live()
    # An older row of it: out of order, or an unfinished sign-up that the backup caught.
    stale: Organization | None = live.filter(key=source.identity.key).first()
    slug = free_slug(name, to=stale)
    if live.filter(slug=slug).exclude(key=source.identity.key).exists():
        slug = slug_variant(slug)
    row = Organization(
        name=name,
        name_digest=name_digest(name),
        slug=slug,
        admin_email=email,
        key=source.identity.key,
        server=Server.of_master(),
        role_name=role_name(),
        sealed_password=seal(secrets.token_urlsafe(32)),
        database_name=free_database_name(session, slug),
        sealed_audit_key=new_audit_key(),
        adopted_from="" if stale is None else stale.adopted_from,
        cloned_from=source.identity.cloned_from,
        read_only_until=parse_datetime(source.identity.read_only_until),
    )
    with transaction.atomic(using="default"):
        # A tombstone stays, under a key of its own.
        tombstones = Organization.objects.filter(key=source.identity.key, status=Status.DELETED)
        tombstones.update(key=random_key())
        # Of an older master: it serves again, and no restore keeps it.
        Restore.objects.filter(role_name=source.role).update(**NOTHING)
        names = [] if stale is None else _names_of(stale)
        if stale is not None:
            stale.delete()
        number = source.identity.organization
        if number is not None and not Organization.objects.filter(pk=number).exists():
            row.pk = number  # Issued tokens and links name it.
        row.save(force_insert=True)
        for former in names:
            if former.digest != row.name_digest:
                former.organization = row
                former.save()
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "SELECT setval(pg_get_serial_sequence('organizations', 'id'), "
                "greatest((SELECT last_value FROM organizations_id_seq), %s))",
                [row.pk],
            )
    return row


def _names_of(stale: Organization) -> list[FormerName]:
    """The names that lead to it: those that it had, and its own, as after a rename."""
    names = list(FormerName.objects.held().filter(organization=stale))
    if settings.ORG_NAME_HOLD_DAYS:
        until = timezone.now() + timedelta(days=settings.ORG_NAME_HOLD_DAYS)
        names.append(FormerName(digest=stale.name_digest, slug=stale.slug, held_until=until))
    return names


def _bring_back(session: ServerSession, row: Organization, source: _Source) -> None:
    """Give a database that is kept aside back to its role, which reads it."""
    if source.identity.state == State.ASIDE:
        found = identity.certain(session, _kept(row, source))
        aside.bring_back(session, found, name=row.name)


def _keep_again(row: Organization, source: _Source) -> None:
    if source.identity.state == State.ASIDE:
        aside.keep_again(lambda: _kept(row, source), database=source.database)


def _kept(row: Organization, source: _Source) -> Expected:
    whose = source.identity
    named = (row.name, whose.key, source.role, source.database)
    return Expected(*named, whose.state, whose.deletion, was_aside=True)


def _fill(session: ServerSession, row: Organization, source: _Source) -> None:
    """Create role and database, copy the content. The old role gets a new password meanwhile."""
    password, old_password = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    row.sealed_password = seal(password)
    row.save(update_fields=["sealed_password"])
    ensure_role(session, role=row.role_name, password=password, key=row.key)
    ensure_database(session, database=row.database_name, role=row.role_name, key=row.key)
    set_password(session, role=source.role, password=old_password)
    session.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(source.role)))
    try:
        end_sessions(session, source.role, name=source.database)
    except SessionsRemain as error:
        why = f"sessions with it do not end (process ids {', '.join(map(str, error.pids))})"
        raise AdoptionRefused(source.database, why) from error
    with session.membership(source.role):
        reset_settings(session, source.database, is_open=True)
    old = transfer.parameters(source.database, source.role, old_password)
    new = transfer.parameters(row.database_name, row.role_name, password)
    failed = transfer.pipe(transfer.dump_command(), old, transfer.restore_command(), new)
    if failed:
        raise CopyFailed(row.name, "\n".join(filter(None, failed)))
    password = regain(
        session,
        database=row.database_name,
        role=row.role_name,
        key=row.key,
        name=row.name,
        is_open=True,
    )
    row.sealed_password = seal(password)
    row.save(update_fields=["sealed_password"])
    if row.read_only_until is not None:
        session.execute(read_only(row.role_name))
    transfer.compare(row.name, transfer.rows(old), transfer.rows({**new, "password": password}))


def _open(session: ServerSession, row: Organization, source: _Source) -> None:
    """In one commit, give the organization the new database, and give the old one up."""
    made = expected(row)
    closed = replace(source.identity, state=State.MOVED, deletion="")
    names = (sql.Identifier(source.database), sql.Identifier(source.role))
    with recorded("organization.adopted", row):
        if not change_status(row, Status.ACTIVE, only_from=(Status.PROVISIONING,), fingerprint=""):
            raise OrganizationBusy(row.name)  # The lock was lost, and the row undone.
        identity.change(
            session,
            made,
            state=State.LET_IN,
            organization=row.pk,
            cloned_from=source.identity.cloned_from,
            read_only_until=source.identity.read_only_until,
        )
        # Until now it said how long the backups are kept.
        Erasure.objects.filter(organization_key=row.key).delete()
        closed.write(source.role)
    # From here on it is an ordinary organization; the rest closes the old database.
    with session.membership(source.role):
        session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(names[0]))
    session.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(names[1]))
