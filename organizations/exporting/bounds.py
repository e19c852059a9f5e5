"""Stops an export at its deadline, its maximum size, or on request."""

from collections.abc import Callable

from django.conf import settings

from organizations.errors import ExportFailed, ExportTookTooLong, ExportTooLarge
from organizations.postgres.watching import Watch


class Bounds(Watch):
    """Counts time and bytes from its creation."""

    def __init__(self, name: str, goes_on: Callable[[], bool]) -> None:
        seconds = settings.EXPORT_DEADLINE_SECONDS
        late = ExportTookTooLong(name, seconds=seconds)
        stopped = ExportFailed(name, "it was stopped.")
        super().__init__(goes_on, seconds=seconds, late=late, stopped=stopped)
        self._name = name
        self._bytes = 0

    def spend(self, count: int = 0) -> None:
        """Count bytes before they are written. Raises ExportTookTooLong, ExportTooLarge, and
        ExportFailed if it is stopped."""
        self()
        self._bytes += count
        most: int = settings.EXPORT_MAX_BYTES
        if self._bytes > most:
            raise ExportTooLarge(self._name, "its content", setting="EXPORT_MAX_BYTES", most=most)
