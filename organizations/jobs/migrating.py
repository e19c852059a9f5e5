"""The migration of one organization, as a job does it."""

from functools import lru_cache

from organizations.errors import MigrationFailed, OrganizationBusy
from organizations.migrating.engine import Engine, Target
from organizations.migrating.fleet import migrate_one
from organizations.migrating.results import Kind
from organizations.models import Organization


def migrate(organization: Organization, *, label: str | None, name: str | None) -> None:
    """To the newest of every tenant app, of one, or to one migration.

    Raises MigrationUnknown, MigrationFailed, OrganizationBusy and ServerUnavailable.
    """
    result = migrate_one(organization, _engine(label, name))
    if result.kind == Kind.BUSY:
        raise OrganizationBusy(organization.name)
    if result.kind == Kind.FAILED:
        raise MigrationFailed(organization.name, result.error)


@lru_cache(maxsize=4)
def _engine(label: str | None, name: str | None) -> Engine:
    # Of the code that this process runs: it loads it once.
    return Engine(Target(label, name))
