"""Provisioning: creates an organization's role, database, tables and first admin, step by step."""

from collections.abc import Callable
from dataclasses import replace

from accounts.services import ensure_admin
from organizations import tenancy
from organizations.models import Organization
from organizations.postgres.sessions import ServerSession

from .making import make
from .report import Path, Report

Step = Organization.Step


def provision(
    session: ServerSession,
    organization: Organization,
    *,
    password_hash: Callable[[], str],
    report: Report,
    done: Callable[[Step], None],
) -> None:
    """Create role, database, tables and first admin; call `done` after each step.

    With a spare database only the admin is missing. session: holds the organization's lock.
    password_hash: called when it is needed. Raises what PostgreSQL and Django raise; nothing is
    undone here.
    """
    tenant = replace(organization.tenant, place=organization.place)
    if organization.provisioned == Step.SCHEMA:
        report.path = Path.SPARE
    else:
        make(session, tenant, owner=organization.name, report=report, done=done)
    with tenancy.override(tenant):
        # Connect while the hash is still being computed.
        with report.step("connect"):
            tenancy.connection().ensure_connection()
        with report.step("hash"):
            hashed = password_hash()
        with report.step("admin"):
            ensure_admin(email=organization.admin_email, password_hash=hashed)
    done(Step.ADMIN)
