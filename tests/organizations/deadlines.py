"""A clock for tests of deadlines, and what is going on when one passes."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from organizations.postgres import programs, watching
from organizations.tenancy import guard
from tests.conftest import Superuser


class Clock:
    """What deadlines are measured by. It stands still until a test lets most of one pass.

    So nothing that comes before the point of the test can be what takes too long, however slow the
    machine is. seconds: the deadline, which is set while the clock stands still.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self._seconds = seconds
        self._now = time.monotonic()
        self._runs_since: float | None = None
        monkeypatch.setattr(watching, "monotonic", self.monotonic)
        monkeypatch.setattr(guard, "monotonic", self.monotonic)
        monkeypatch.setattr(programs, "time", self)

    def monotonic(self) -> float:
        since = self._runs_since
        return self._now if since is None else self._now + time.monotonic() - since

    def leave(self, seconds: float) -> None:
        """Leave so much of the deadline. From then on the clock runs."""
        if self._runs_since is None:
            self._now += self._seconds - seconds
            self._runs_since = time.monotonic()

    def until_asleep(self, superuser: Superuser) -> Callable[[], bool]:
        """A `goes_on` that is true, and leaves nothing once a statement sleeps."""

        def goes_on() -> bool:
            sleeping = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            if superuser.execute(sleeping).fetchone() is not None:
                self.leave(0)
            return True

        return goes_on


def note_cancels(monkeypatch: pytest.MonkeyPatch, superuser: Superuser) -> list[object]:
    """What the server says each statement waits for when its time is over. Filled later."""
    noted: list[object] = []
    cancel = guard.Connection.cancel_safe

    def noting(self: guard.Connection, **options: Any) -> None:
        query = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        (event,) = superuser.execute(query, (self.pgconn.backend_pid,)).fetchone() or (None,)
        noted.append(event)
        cancel(self, **options)

    monkeypatch.setattr(guard.Connection, "cancel_safe", noting)
    return noted
