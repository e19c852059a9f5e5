"""Makes an organization, from top to bottom: row, role, database, tables, first admin, activation.

Each step can be repeated. The organization's row says which was the last; an
unfinished organization is undone (undoing.py).
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace

from django.conf import settings
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, transaction

from accounts.services import ensure_admin
from organizations import tenancy
from organizations.audit import record_failure, recorded
from organizations.errors import OrganizationExists, ProvisioningFailed
from organizations.jobs.models import PendingSignUp
from organizations.models import Organization, Server, random_key
from organizations.naming import (
    name_digest,
    role_name,
    slug_variant,
)
from organizations.postgres import identity
from organizations.postgres.databases import drop, ensure_database, past_pooler
from organizations.postgres.identity import Expected
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import ServerSession
from organizations.secrets import new_audit_key, seal, unseal
from organizations.tenancy import Place, Tenant, registry
from organizations.tenancy.constraints import broken_unique
from organizations.validators import SignUp

from . import copying, spares, templates, versions
from .failures import explained
from .migrations import migrate_tenant
from .names import free_database_name, free_name
from .report import Path, Record, Report
from .undoing import change_status, compensate, expected, take_back_row

logger = logging.getLogger(__name__)

Status = Organization.Status
Step = Organization.Step


def make(
    session: ServerSession,
    sign_up: SignUp,
    password_hash: Callable[[], str],
    report: Report,
    pending: PendingSignUp | None = None,
) -> Organization:
    """Make the organization, under its name's lock, which the session holds.

    password_hash: waits for the first admin's. pending: the row that reserved the name, for a
    sign-up that was answered 202.
    Raises what lifecycle.create_organization raises. Then everything was undone; if that was
    impossible, the row says so.
    """
    try:
        with report.step("row"):
            organization = _insert(session, sign_up, pending)
    except (OperationalError, InterfaceError) as error:
        take_back_row(session, sign_up.name, error)
        raise
    record = Record(session, organization, pending)
    try:
        tenant = replace(organization.tenant, place=past_pooler(organization.place))
        if organization.provisioned == Step.SCHEMA:
            report.path = Path.SPARE
        else:
            make_database(session, tenant, owner=organization.name, report=report, record=record)
        _make_first_admin(organization, tenant, password_hash, report)
        record.reached(Step.ADMIN)
        with report.step("activation"):
            _activate(session, organization, pending)
    except BaseException as error:
        record_failure(organization, error)
        compensate(session, organization)
        reason = explained(organization, error)
        if reason is error:
            raise
        raise reason from error
    logger.info(
        "organization created", extra={"organization": organization.pk, "path": str(report.path)}
    )
    return organization


# --- The row ----------------------------------------------------------------------------------
def _insert(
    session: ServerSession, sign_up: SignUp, pending: PendingSignUp | None = None
) -> Organization:
    """The row; if a spare database is ready, the same commit assigns it."""

    def save(row: Organization) -> Organization:
        return _insert_with_spare(session, row) or insert_alone(row)

    return insert(session, sign_up, save, pending)


def insert(
    session: ServerSession,
    sign_up: SignUp,
    save: Callable[[Organization], Organization],
    pending: PendingSignUp | None = None,
) -> Organization:
    """The row, committed before anything exists that would be an orphan without it.

    save: writes it. The name's lock must be held. Raises OrganizationExists, and what `save` does.
    """
    name = sign_up.name
    slug = free_name(session, name, pending=pending)
    database = free_database_name(session, slug)
    # A readable slug can look like a hashed one, and another row can name that database: neither is
    # a reason to refuse this name, nor one's reason to change the other.
    for _ in range(3):
        row = Organization(
            name=name,
            name_digest=name_digest(name),
            slug=slug,
            admin_email=sign_up.email,
            database_name=database,
            sealed_audit_key=new_audit_key(),
        )
        try:
            return save(row)
        except IntegrityError as error:
            taken = broken_unique(error)
            if taken == "organizations_slug_live":
                slug = slug_variant(slug)
            elif taken == "organizations_database_name_live":
                database = free_database_name(session, slug_variant(slug))
            elif taken == "organizations_name_digest_live":
                break
            else:
                raise
    raise OrganizationExists(name)


def insert_alone(row: Organization) -> Organization:
    """Save the row with a role and password of its own, and no database yet."""
    row.server = Server.of_master()
    row.role_name = role_name()
    row.sealed_password = seal(secrets.token_urlsafe(32))
    row.save(force_insert=True)
    return row


def _insert_with_spare(session: ServerSession, row: Organization) -> Organization | None:
    """The row with a spare database, both or neither; None if there is no usable one."""
    if not settings.ORG_SPARE_DATABASES:
        return None
    spare = None
    try:
        with transaction.atomic(using="default"):
            spare = spares.choose(session)
            if spare is None:
                return None
            row.server_id = spare.server_id
            row.role_name = spare.role_name
            row.sealed_password = spare.sealed_password
            row.key = spare.key
            row.provisioned = Step.SCHEMA
            row.save(force_insert=True)
            spares.hand_out(session, spare, row.database_name)
    except DatabaseError as error:
        if spare is None or not spares.is_at_fault(spare, error):
            raise
        row.pk, row.key, row.provisioned = None, random_key(), Step.NOTHING
        return None
    spares.notify_taken()
    return row


# --- Role, database and tables ----------------------------------------------------------------
def make_database(
    session: ServerSession, tenant: Tenant, *, owner: str, report: Report, record: Record
) -> None:
    """Create what tenant.place names, as a copy of the template or by running the migrations.

    owner: named when the credential cannot be read. Raises what PostgreSQL and Django raise;
    nothing is undone here.
    """
    place = tenant.place
    assert place is not None  # noqa: S101 - a caller's mistake
    password = unseal(place.sealed_password, owner=owner)
    with report.step("template"):
        template = templates.ensure(session) if settings.ORG_TEMPLATES else None
    if template is not None:
        try:
            copying.copy(session, tenant, place, template, password, report, record)
            report.path = Path.TEMPLATE
            return
        except copying.AT_FAULT as error:
            if session.connection.closed:
                raise
            logger.warning("template not usable", extra={"template": template.pk}, exc_info=error)
            if not isinstance(error, copying.FOR_NOW):
                templates.distrust(template)
        registry.forget(tenant.alias)
        half_made = Expected(
            owner, tenant.key, place.role_name, place.database_name, identity.State.MADE
        )
        drop(session, identity.certain(session, half_made))
    _make_by_migrations(session, tenant, place, password, report, record)


def _make_by_migrations(
    session: ServerSession,
    tenant: Tenant,
    place: Place,
    password: str,
    report: Report,
    record: Record,
) -> None:
    with report.step("role"):
        ensure_role(session, role=place.role_name, password=password, key=tenant.key)
    record.reached(Step.ROLE)
    with report.step("database"):
        ensure_database(session, database=place.database_name, role=place.role_name, key=tenant.key)
    record.reached(Step.DATABASE)
    with report.step("schema"):
        migrate_tenant(tenant)
    record.reached(Step.SCHEMA)


# --- First admin and activation ---------------------------------------------------------------
def _make_first_admin(
    organization: Organization, tenant: Tenant, password_hash: Callable[[], str], report: Report
) -> None:
    with tenancy.override(tenant):
        # Connect while the hash is still being computed.
        with report.step("connect"):
            tenancy.connection().ensure_connection()
        with report.step("hash"):
            hashed = password_hash()
        with report.step("admin"):
            ensure_admin(email=organization.admin_email, password_hash=hashed)


def _activate(
    session: ServerSession, organization: Organization, pending: PendingSignUp | None
) -> None:
    """Activate the organization. Fails if reconcile_orgs took the row over meanwhile.

    Template, spare database and migrations were this code's, so the fingerprint is too. In the same
    commit its waiting sign-up ends, if there is one: a later retry finds nothing to do.
    """
    fingerprint = versions.remember_code()
    made = expected(organization)
    with recorded("organization.created", organization):
        if pending is not None and not pending.finish(organization.pk):
            raise ProvisioningFailed(organization.name, "its sign-up was cancelled.")
        if not change_status(
            organization,
            Status.ACTIVE,
            only_from=(Status.PROVISIONING,),
            fingerprint=fingerprint,
        ):
            reason = "it was cleaned up while it was being created."
            raise ProvisioningFailed(organization.name, reason)
        identity.change(session, made, state=identity.State.LET_IN, organization=organization.pk)
