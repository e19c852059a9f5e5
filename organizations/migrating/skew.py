"""Version skew: refuses an organization whose database lacks migrations that this code needs."""

from django.conf import settings

from organizations.errors import OrganizationMigrating
from organizations.provisioning import code

from . import records


def refuse_outdated(fingerprint: str, *, name: str, organization_id: int) -> None:
    """Nothing where the database has what the code needs. Raises OrganizationMigrating.

    fingerprint: as the master has it. One that nobody knows, or that nobody wrote down, is let by:
    migrate_orgs looks at it. The normal case asks nobody; another fingerprint is looked up once.
    """
    if not fingerprint or settings.ORG_VERSION_SKEW == "serve":
        return
    if fingerprint == code.current().fingerprint:
        return
    has = records.migrations_of(fingerprint)
    # Only what is missing counts: a database that is ahead serves the old code of a deploy, too.
    if has is not None and records.lacking(has):
        raise OrganizationMigrating(name, organization_id=organization_id)
