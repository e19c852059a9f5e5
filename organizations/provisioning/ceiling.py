"""Says whether there is room for one more organization: its name, and ORG_MAX_ORGANIZATIONS, since
each is a database and disks are finite."""

import logging

from django.conf import settings

from organizations.errors import OrganizationExists, TooManyOrganizations
from organizations.jobs.models import PendingSignUp
from organizations.models import Organization

from . import code

logger = logging.getLogger(__name__)

# The share of ORG_MAX_ORGANIZATIONS from which each new one logs a warning.
_WARNED_FROM = 0.9


def refuse_name(name: str) -> None:
    """Raise unless an organization of this valid name can be made now, by this code:
    MigrationsIncoherent, OrganizationExists, TooManyOrganizations."""
    code.refuse_incoherent_migrations()
    if Organization.objects.taken().known_as(name).exists():
        raise OrganizationExists(name)
    refuse_when_full()


def refuse_when_full() -> None:
    """Raise TooManyOrganizations if ORG_MAX_ORGANIZATIONS is reached."""
    if not settings.ORG_MAX_ORGANIZATIONS:
        return
    number = count()
    facts = {"organizations": number, "ceiling": settings.ORG_MAX_ORGANIZATIONS}
    if number >= settings.ORG_MAX_ORGANIZATIONS:
        logger.error("no more organizations", extra=facts)
        raise TooManyOrganizations
    if is_near(number):
        logger.warning("nearly ORG_MAX_ORGANIZATIONS organizations", extra=facts)


def count() -> int:
    """The number of organizations and waiting sign-ups."""
    return Organization.objects.live().count() + PendingSignUp.objects.open().count()


def is_near(number: int) -> bool:
    """Whether this number is near the limit."""
    most = settings.ORG_MAX_ORGANIZATIONS
    return bool(most) and number >= most * _WARNED_FROM
