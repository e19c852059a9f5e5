"""Stops long operations at a deadline or on request."""

from collections.abc import Callable
from time import monotonic

from django.conf import settings

from organizations.errors import BackupTookTooLong, OrganizationError


class Watch:
    """Counts from its creation. Call it repeatedly: it raises `late` or `stopped`.

    goes_on: false ends the act. until: the deadline, by time.monotonic().
    """

    def __init__(
        self,
        goes_on: Callable[[], bool],
        *,
        seconds: float,
        late: OrganizationError,
        stopped: OrganizationError,
    ) -> None:
        self.goes_on = goes_on
        self.until = monotonic() + seconds
        self._late = late
        self._stopped = stopped

    def __call__(self) -> None:
        if monotonic() >= self.until:
            raise self._late
        if not self.goes_on():
            raise self._stopped

    def left(self) -> float:
        """Seconds to the deadline, at least one."""
        return max(1.0, self.until - monotonic())


class BackupWatch(Watch):
    """For what lasts as long as a backup. name: the organization's. act: its name in the error."""

    def __init__(
        self, name: str, act: str, goes_on: Callable[[], bool], *, stopped: OrganizationError
    ) -> None:
        self.name = name
        seconds = settings.BACKUP_DEADLINE_SECONDS
        late = BackupTookTooLong(name, act, seconds=seconds)
        super().__init__(goes_on, seconds=seconds, late=late, stopped=stopped)
