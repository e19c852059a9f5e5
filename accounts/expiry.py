"""Prunes expired logins in an organization's database."""

import logging
import time
from collections.abc import Callable

from django.utils import timezone

from .models import LoginSession

logger = logging.getLogger(__name__)

_AT_A_TIME = 1_000
# What is left is left to the next night.
_LONGEST_SECONDS = 600.0


def prune_sessions(*, goes_on: Callable[[], bool] = lambda: True) -> int:
    """Delete the active organization's logins that have expired; how many.

    One that was ended stays until it would have expired: showing its token again is still known
    for what it is. In batches, so that nobody waits long; asked before each whether to go on. Ends
    where a batch deletes nothing, and in time: a trigger in the organization's database can keep
    rows, or a view bring new ones.
    """
    expired = LoginSession.objects.filter(expires_at__lt=timezone.now())
    until = time.monotonic() + _LONGEST_SECONDS
    pruned = 0
    while goes_on() and (some := list(expired.values_list("pk", flat=True)[:_AT_A_TIME])):
        deleted = LoginSession.objects.filter(pk__in=some).delete()[0]
        pruned += deleted
        if not deleted or time.monotonic() > until:
            logger.warning("expired logins left", extra={"pruned": pruned, "last": deleted})
            break
    return pruned
