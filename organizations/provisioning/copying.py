"""Copies the template database for an organization, whose role takes over the copy's tables."""

import psycopg
from psycopg import sql

from organizations import tenancy
from organizations.models import Template
from organizations.postgres.databases import ensure_database
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import ServerSession
from organizations.tenancy import Place, Tenant

from . import code
from .report import Record, Report, Step

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
FOR_NOW = (psycopg.errors.ObjectInUse, psycopg.errors.InsufficientPrivilege)


class TemplateUnusable(Exception):
    """The template cannot be copied, or its copy lacks tables."""


AT_FAULT = (TemplateUnusable, *_TEMPLATE_AT_FAULT)


def copy(
    session: ServerSession,
    tenant: Tenant,
    place: Place,
    template: Template,
    password: str,
    report: Report,
    record: Record,
) -> None:
    """Create the place's role, database and tables. Raises AT_FAULT, and what PostgreSQL and Django
    raise; nothing is undone here."""
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
    record.reached(Step.ROLE)
    with report.step("database"):
        ensure_database(
            session,
            database=place.database_name,
            role=place.role_name,
            key=tenant.key,
            template=template.database_name,
        )
    record.reached(Step.DATABASE)
    with report.step("schema"):
        _take_over(tenant, template.role_name, place.role_name)
        revoke = sql.SQL("REVOKE {} FROM {}")
        session.execute(
            revoke.format(sql.Identifier(template.role_name), sql.Identifier(place.role_name))
        )
    record.reached(Step.SCHEMA)


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
