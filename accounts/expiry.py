"""Prunes expired logins in an organization's database."""

import logging
import time
from collections.abc import Callable

from django.utils import timezone

from organizations import tenancy

from .models import LoginSession

logger = logging.getLogger(__name__)

_AT_A_TIME = 1_000
# The next night continues.
_LONGEST_SECONDS = 600.0


def prune_sessions(*, goes_on: Callable[[], bool] = lambda: True) -> int:
    """Delete the active organization's expired logins. Returns how many.

    An ended login stays until it would have expired, so that reuse of its token is recognised. In
    batches, so that nobody waits long; goes_on is called before each. Stops when a batch deletes
    nothing, or time is up: a trigger in the organization's database can keep rows, or a view add
    new ones.
    """
    expired = LoginSession.objects.filter(expires_at__lt=timezone.now())
    until = time.monotonic() + _LONGEST_SECONDS
    pruned = 0
    while goes_on() and (some := list(expired.values_list("pk", flat=True)[:_AT_A_TIME])):
        with tenancy.atomic(even_read_only=True):
            deleted = LoginSession.objects.filter(pk__in=some).delete()[0]
        pruned += deleted
        if not deleted or time.monotonic() > until:
            logger.warning("expired logins remain", extra={"pruned": pruned, "last": deleted})
            break
    return pruned
