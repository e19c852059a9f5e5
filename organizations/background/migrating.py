"""Migrates one organization's database, inside a background job."""

from functools import lru_cache

from organizations.errors import MigrationFailed, OrganizationBusy, OtherCode, SessionEnded
from organizations.migrating.engine import Engine, Target
from organizations.migrating.fleet import migrate_one
from organizations.migrating.results import Kind
from organizations.models import Organization


def migrate(
    organization: Organization, *, label: str | None, name: str | None, fingerprint: str
) -> None:
    """Migrate every tenant app, or one, to its newest migration, or one app to the given one.

    fingerprint: what the database has afterwards, by the code of the requester; empty: any. Raises
    OtherCode, MigrationUnknown, MigrationFailed, SessionEnded, OrganizationBusy and
    ServerUnavailable.
    """
    engine = _engine(label, name)
    if fingerprint not in ("", engine.fingerprint):
        raise OtherCode  # Otherwise it would succeed, and leave the organization outdated.
    result = migrate_one(organization, engine)
    if result.kind == Kind.BUSY:
        raise OrganizationBusy(organization.name)
    if result.kind == Kind.FAILED and result.was_ended:
        raise SessionEnded(organization.name)
    if result.kind == Kind.FAILED:
        raise MigrationFailed(organization.name, result.error)


@lru_cache(maxsize=4)
def _engine(label: str | None, name: str | None) -> Engine:
    # Cached, since a process loads its code once.
    return Engine(Target(label, name))
