"""The steps of provisioning in their order, forwards and back. Each can be repeated."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from accounts.services import ensure_admin
from organizations import tenancy
from organizations.models import Organization
from organizations.sealing import unseal
from organizations.tenancy import registry

from .database import drop_database, ensure_database
from .migrations import migrate_tenant
from .role import drop_role, ensure_role
from .server import ServerSession

Step = Organization.Step


@dataclass
class Report:
    """How long each step took, in seconds, in the order of the steps."""

    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


def provision(
    session: ServerSession,
    organization: Organization,
    *,
    password_hash: str,
    report: Report,
    done: Callable[[Step], None],
) -> None:
    """Make role, database, tables and first admin; call `done` behind each step.

    session: holds the organization's lock. Raises what PostgreSQL and Django raise; nothing is
    taken back here.
    """
    role, database = organization.role_name, organization.database_name
    password = unseal(organization.sealed_password, owner=organization.name)
    email = organization.admin_email

    def make_admin() -> None:
        with tenancy.override(organization.tenant):
            ensure_admin(email=email, password_hash=password_hash)

    steps: tuple[tuple[Step, Callable[[], None]], ...] = (
        (Step.ROLE, lambda: ensure_role(session, role=role, password=password)),
        (Step.DATABASE, lambda: ensure_database(session, database=database, role=role)),
        (Step.SCHEMA, lambda: migrate_tenant(organization.tenant)),
        (Step.ADMIN, make_admin),
    )
    for step, act in steps:
        began = time.perf_counter()
        act()
        report.seconds[step.value] = time.perf_counter() - began
        done(step)


def tear_down(session: ServerSession, organization: Organization) -> None:
    """Drop the organization's database and role, whatever there is of them."""
    registry.forget(organization.tenant.alias)
    role = organization.role_name
    drop_database(session, database=organization.database_name, role=role)
    drop_role(session, role=role)
