"""Creates a role, a database and its tables, as a copy of the template or by running migrations.

Each step can be repeated."""

import logging
from collections.abc import Callable

import psycopg
from django.conf import settings
from psycopg import sql

from organizations import tenancy
from organizations.models import Organization, Template
from organizations.postgres import identity
from organizations.postgres.databases import drop, ensure_database
from organizations.postgres.identity import Expected
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import ServerSession
from organizations.secrets import unseal
from organizations.tenancy import Place, Tenant, registry

from . import code, templates
from .migrations import migrate_tenant
from .report import Path, Report

logger = logging.getLogger(__name__)
Step = Organization.Step
Done = Callable[[Step], None]

# PostgreSQL's errors when the template is gone, in use, without its role, or half dropped.
_TEMPLATE_AT_FAULT = (
    psycopg.errors.InvalidCatalogName,
    psycopg.errors.ObjectInUse,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InsufficientPrivilege,
)
# Rebuilding the template would not help.
_FOR_NOW = (psycopg.errors.ObjectInUse, psycopg.errors.InsufficientPrivilege)


class TemplateUnusable(Exception):
    """The template cannot be copied, or its copy lacks tables."""


def make(session: ServerSession, tenant: Tenant, *, owner: str, report: Report, done: Done) -> None:
    """Create what tenant.place names; call `done` after each step.

    owner: named when the credential cannot be read. With an unusable template it falls back to the
    migrations. Raises what PostgreSQL and Django raise; nothing is undone here.
    """
    place = tenant.place
    assert place is not None  # noqa: S101 - a caller's mistake
    password = unseal(place.sealed_password, owner=owner)
    with report.step("template"):
        template = templates.ensure(session) if settings.ORG_TEMPLATES else None
    if template is not None:
        try:
            _copy(session, tenant, place, template, password, report, done)
            report.path = Path.TEMPLATE
            return
        except (TemplateUnusable, *_TEMPLATE_AT_FAULT) as error:
            if session.connection.closed:
                raise
            logger.warning("template not usable", extra={"template": template.pk}, exc_info=error)
            if not isinstance(error, _FOR_NOW):
                templates.distrust(template)
        registry.forget(tenant.alias)
        half_made = Expected(
            owner, tenant.key, place.role_name, place.database_name, identity.State.MADE
        )
        drop(session, identity.certain(session, half_made))
    _make_plainly(session, tenant, place, password, report, done)


def _make_plainly(
    session: ServerSession,
    tenant: Tenant,
    place: Place,
    password: str,
    report: Report,
    done: Done,
) -> None:
    with report.step("role"):
        ensure_role(session, role=place.role_name, password=password, key=tenant.key)
    done(Step.ROLE)
    with report.step("database"):
        ensure_database(session, database=place.database_name, role=place.role_name, key=tenant.key)
    done(Step.DATABASE)
    with report.step("schema"):
        migrate_tenant(tenant)
    done(Step.SCHEMA)


def _copy(
    session: ServerSession,
    tenant: Tenant,
    place: Place,
    template: Template,
    password: str,
    report: Report,
    done: Done,
) -> None:
    with report.step("role"):
        # Membership in the template's role, to take over its tables. It ends below, before anybody
        # can use the role.
        ensure_role(
            session,
            role=place.role_name,
            password=password,
            key=tenant.key,
            member_of=template.role_name,
        )
    done(Step.ROLE)
    with report.step("database"):
        ensure_database(
            session,
            database=place.database_name,
            role=place.role_name,
            key=tenant.key,
            template=template.database_name,
        )
    done(Step.DATABASE)
    with report.step("schema"):
        _take_over(tenant, template.role_name, place.role_name)
        revoke = sql.SQL("REVOKE {} FROM {}")
        session.execute(
            revoke.format(sql.Identifier(template.role_name), sql.Identifier(place.role_name))
        )
    done(Step.SCHEMA)


def _take_over(tenant: Tenant, tables_role: str, role: str) -> None:
    """Give the copy's tables to the organization's role, in its own session.

    Never from the application's role: REASSIGN OWNED also takes shared objects, and that role owns
    the templates. Raises TemplateUnusable if one of the code's tables is missing.
    """
    statement = sql.SQL("REASSIGN OWNED BY {} TO {}").format(
        sql.Identifier(tables_role), sql.Identifier(role)
    )
    try:
        with tenancy.override(tenant), tenancy.connection().cursor() as cursor:
            cursor.execute(statement.as_string())
            cursor.execute(
                "SELECT count(*) FROM unnest(%s::text[]) AS name LEFT JOIN pg_class "
                "ON relname = name AND relnamespace = 'public'::regnamespace "
                "AND relowner = %s::regrole WHERE oid IS NULL",
                [list(code.current().tables), role],
            )
            (missing,) = cursor.fetchone()
    except Exception as error:
        if isinstance(error.__cause__, _TEMPLATE_AT_FAULT):
            raise TemplateUnusable(type(error.__cause__).__name__) from error
        raise
    if missing:
        raise TemplateUnusable(f"{missing} tables are missing")
