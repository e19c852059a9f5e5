"""Enforces ORG_MAX_ORGANIZATIONS, since each organization is a database and disks are finite."""

import logging

from django.conf import settings

from .errors import TooManyOrganizations
from .jobs.models import PendingSignUp
from .models import Organization

logger = logging.getLogger(__name__)

# Of ORG_MAX_ORGANIZATIONS: from here on each new one is a warning.
_WARNED_FROM = 0.9


def refuse_above() -> None:
    """Raise TooManyOrganizations where there are as many as ORG_MAX_ORGANIZATIONS allows."""
    if not settings.ORG_MAX_ORGANIZATIONS:
        return
    number = count()
    facts = {"organizations": number, "ceiling": settings.ORG_MAX_ORGANIZATIONS}
    if number >= settings.ORG_MAX_ORGANIZATIONS:
        logger.error("no more organizations", extra=facts)
        raise TooManyOrganizations
    if is_near(number):
        logger.warning("nearly as many organizations as there may be", extra=facts)


def count() -> int:
    """Of organizations, and of sign-ups that have their name and wait."""
    return Organization.objects.live().count() + PendingSignUp.objects.open().count()


def is_near(number: int) -> bool:
    """Whether so many are to be warned of."""
    most = settings.ORG_MAX_ORGANIZATIONS
    return bool(most) and number >= most * _WARNED_FROM
