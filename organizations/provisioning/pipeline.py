"""The steps of provisioning in their order, forwards and back. Each can be repeated."""

from collections.abc import Callable
from dataclasses import replace

from accounts.services import ensure_admin
from organizations import tenancy
from organizations.models import Organization
from organizations.tenancy import registry

from .database import drop_databases_of
from .making import make
from .report import Path, Report
from .role import drop_role
from .server import ServerSession

Step = Organization.Step


def provision(
    session: ServerSession,
    organization: Organization,
    *,
    password_hash: Callable[[], str],
    report: Report,
    done: Callable[[Step], None],
) -> None:
    """Make role, database, tables and first admin; call `done` behind each step.

    Of an organization that has taken a spare database the admin alone is missing. session: holds
    the organization's lock. password_hash: asked for when it is needed. Raises what PostgreSQL and
    Django raise; nothing is taken back here.
    """
    tenant = replace(organization.tenant, place=organization.place)
    if organization.provisioned == Step.SCHEMA:
        report.path = Path.SPARE
    else:
        make(session, tenant, owner=organization.name, report=report, done=done)
    with tenancy.override(tenant):
        # While the hash is still being computed.
        with report.step("connect"):
            tenancy.connection().ensure_connection()
        with report.step("hash"):
            hashed = password_hash()
        with report.step("admin"):
            ensure_admin(email=organization.admin_email, password_hash=hashed)
    done(Step.ADMIN)


def tear_down(session: ServerSession, organization: Organization) -> None:
    """Drop the organization's database and role, whatever there is of them.

    Whatever its role owns, by any name.
    """
    registry.forget(organization.tenant.alias)
    role = organization.role_name
    drop_databases_of(session, role=role)
    drop_role(session, role=role)
