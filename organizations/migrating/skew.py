"""Version skew: refuses an organization whose database lacks migrations that this code needs."""

from django.conf import settings

from organizations.errors import OrganizationMigrating
from organizations.postgres.sessions import ServerSession
from organizations.provisioning import code, versions


def refuse_outdated(
    fingerprint: str, *, name: str, organization_id: int, session: ServerSession | None = None
) -> None:
    """Raise OrganizationMigrating if the database lacks migrations that the code needs.

    fingerprint: from the master. An empty or unknown one passes: migrate_orgs will look at it. The
    normal case needs no query; another fingerprint is looked up once, by `session` or by Django's.
    """
    if not fingerprint or settings.ORG_VERSION_SKEW == "serve":
        return
    if fingerprint == code.current().fingerprint:
        return
    has = versions.migrations_of(fingerprint, session=session)
    # Only missing ones count: a database that is ahead still serves the old code of a deploy.
    if has is not None and versions.lacking(has):
        raise OrganizationMigrating(name, organization_id=organization_id)
