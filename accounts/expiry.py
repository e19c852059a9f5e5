"""The end of what has expired in an organization's database."""

from collections.abc import Callable

from django.utils import timezone

from .models import LoginSession

_AT_A_TIME = 1_000


def prune_sessions(*, goes_on: Callable[[], bool] = lambda: True) -> int:
    """Delete the active organization's logins that have expired; how many.

    One that was ended stays until it would have expired: showing its token again is still known
    for what it is. In batches, so that nobody waits long; asked before each whether to go on.
    """
    expired = LoginSession.objects.filter(expires_at__lt=timezone.now())
    pruned = 0
    while goes_on() and (some := list(expired.values_list("pk", flat=True)[:_AT_A_TIME])):
        pruned += LoginSession.objects.filter(pk__in=some).delete()[0]
    return pruned
