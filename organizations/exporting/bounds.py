"""What one export may take: so much time, so many bytes, and as long as it is wanted."""

from collections.abc import Callable
from time import monotonic

from django.conf import settings

from organizations.errors import ExportFailed, ExportTookTooLong, ExportTooLarge


class Bounds:
    """Counts from its making. ends_at: by time.monotonic()."""

    def __init__(self, name: str, goes_on: Callable[[], bool]) -> None:
        self.ends_at = monotonic() + settings.EXPORT_DEADLINE_SECONDS
        self._name = name
        self._goes_on = goes_on
        self._bytes = 0

    def spend(self, count: int = 0) -> None:
        """Count bytes before they are written. Raises ExportTookTooLong, ExportTooLarge, and
        ExportFailed if it is stopped."""
        if not self._goes_on():
            raise ExportFailed(self._name, "it was stopped.")
        if monotonic() >= self.ends_at:
            raise ExportTookTooLong(self._name, seconds=settings.EXPORT_DEADLINE_SECONDS)
        self._bytes += count
        most: int = settings.EXPORT_MAX_BYTES
        if self._bytes > most:
            raise ExportTooLarge(self._name, "its content", setting="EXPORT_MAX_BYTES", most=most)
