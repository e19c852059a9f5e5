"""Takes over one organization of the FastAPI edition, with its users, into a new database."""

import logging
import secrets
from dataclasses import replace
from itertools import islice

import psycopg
from django.db import IntegrityError
from django.utils import timezone
from psycopg.rows import TupleRow

from accounts.models import User, email_key
from organizations import tenancy
from organizations.audit import recorded
from organizations.errors import AdoptionRefused, OrganizationBusy
from organizations.models import Organization, Server
from organizations.naming import display_name, name_digest, role_name, slug_variant
from organizations.naming import name_key as key_of
from organizations.postgres import identity
from organizations.postgres.databases import past_pooler
from organizations.postgres.sessions import ServerSession, open_session, refuse_in_transaction
from organizations.provisioning import code, versions
from organizations.provisioning.failures import explained
from organizations.provisioning.making import make_database
from organizations.provisioning.names import free_database_name, free_name
from organizations.provisioning.report import Record, Report
from organizations.provisioning.undoing import change_status, compensate, expected
from organizations.secrets import new_audit_key, seal
from organizations.tenancy import Tenant
from organizations.tenancy.trail import Fact

from . import source
from .planning import look_at_users
from .source import OldOrganization, OldUser, Source

logger = logging.getLogger(__name__)
Status = Organization.Status
_USERS_AT_A_TIME = 500


def adopt(old: Source, given: OldOrganization) -> Organization:
    """Take over an organization whose plan is due: a new row, role and database, and its users.

    Users keep ids, passwords and rights. The old database is only read. If it raises, everything
    here was undone; if that was impossible, the row says so, and reconcile_orgs undoes it. Raises
    AdoptionRefused, FirstEditionUnreadable, OrganizationExists, OrganizationBusy,
    MigrationsIncoherent, InstallationUnclaimed, ProvisioningFailed and ServerUnavailable.
    """
    refuse_in_transaction()
    code.refuse_incoherent_migrations()
    given = replace(given, name=display_name(given.name), admin_email=given.admin_email.strip())
    with open_session() as session:
        _ = session.installation  # Nothing is made in a copy of the master.
        if not session.try_lock(key_of(given.name)):
            raise OrganizationBusy(given.name)
        row = _insert(session, given)
        try:
            users = _fill(session, row, old, given)
            _activate(session, row, given, users)
        except BaseException as error:
            compensate(session, row)
            reason = explained(row, error)
            if reason is error:
                raise
            raise reason from error
    logger.info("organization adopted", extra={"organization": row.pk})
    return row


def _insert(session: ServerSession, given: OldOrganization) -> Organization:
    """The row, which reconcile_orgs removes if this process dies."""
    slug = free_name(session, given.name)
    if Organization.objects.live().filter(slug=slug).exists():
        slug = slug_variant(slug)
    row = Organization(
        name=given.name,
        name_digest=name_digest(given.name),
        slug=slug,
        admin_email=given.admin_email,
        created_at=given.created_at or timezone.now(),
        server=Server.of_master(),
        role_name=role_name(),
        sealed_password=seal(secrets.token_urlsafe(32)),
        database_name=free_database_name(session, slug),
        sealed_audit_key=new_audit_key(),
        adopted_from=given.origin,
    )
    try:
        row.save(force_insert=True)
    except IntegrityError as error:
        # Another process takes it over, or took a name since we looked.
        raise OrganizationBusy(given.name) from error
    return row


def _fill(session: ServerSession, row: Organization, old: Source, given: OldOrganization) -> int:
    """Make the database, and copy the users. Returns their number."""
    tenant = replace(row.tenant, place=past_pooler(row.place))
    record = Record(session, row)
    make_database(session, tenant, owner=row.name, report=Report(), record=record)
    with old.open(given.database) as connection:
        # Checked in the same snapshot that is copied: the plan's is older.
        if look_at_users(connection, given.database).problems:
            raise AdoptionRefused(given.database, "its users changed since they were listed")
        users = _copy(connection, given, tenant)
    record.reached(Organization.Step.ADMIN)
    return users


def _copy(connection: psycopg.Connection[TupleRow], given: OldOrganization, tenant: Tenant) -> int:
    """Copy the users, all or none. Returns their number."""
    rows, count = source.users(connection, given.database), 0
    with tenancy.override(tenant), tenancy.atomic():
        while some := list(islice(rows, _USERS_AT_A_TIME)):
            User.objects.bulk_create([_user(each) for each in some])
            count += len(some)
        with tenancy.connection().cursor() as cursor:
            cursor.execute(
                "SELECT setval(pg_get_serial_sequence('users', 'id'), max(id)) FROM users "
                "HAVING count(*) > 0"
            )
    return count


def _user(old: OldUser) -> User:
    return User(
        pk=old.id,
        email=old.email,
        email_key=email_key(old.email),
        password=old.hashed_password,
        is_admin=old.is_admin,
        is_active=old.is_active,
        created_at=old.created_at or timezone.now(),
    )


def _activate(
    session: ServerSession, row: Organization, given: OldOrganization, users: int
) -> None:
    """In one commit, with the record. Fails if reconcile_orgs took the row over meanwhile."""
    fingerprint = versions.remember_code()
    made = expected(row)
    facts: dict[str, Fact] = {"from": "fastapi", "old_id": given.id, "users": users}
    with recorded("organization.adopted", row, facts):
        if not change_status(
            row, Status.ACTIVE, only_from=(Status.PROVISIONING,), fingerprint=fingerprint
        ):
            raise OrganizationBusy(row.name)
        identity.change(session, made, state=identity.State.LET_IN, organization=row.pk)
