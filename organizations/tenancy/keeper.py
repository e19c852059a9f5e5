"""A thread of the process that ends what nobody waits for any more.

Back ends that run on behind a closed socket, since plpgsql can swallow a cancel: from a session of
the master, by the directory. And what waits for a time of its own: `every_second`.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from . import directory

logger = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_SECONDS_AT_EXIT = 5.0


class Keeper:
    """Safe from any thread. The thread is a daemon, and begins with the first need of it."""

    every_second: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._strays: SimpleQueue[tuple[str, str, int]] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()

    def start(self) -> None:
        """Begin, unless it has."""
        if self._thread is not None:
            return
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
                self._thread.start()

    def end(self, role: str, database: str, pid: int) -> None:
        """Have the back end of the role's session with the database ended, if it is still there."""
        self._strays.put((role, database, pid))
        self._idle.clear()
        self.start()

    def flush(self, timeout_seconds: float = _SECONDS_AT_EXIT) -> bool:
        """Wait until nothing is left to end; whether that came to pass in time."""
        return self._idle.wait(timeout_seconds)

    def _run(self) -> None:
        while True:
            with suppress(Empty):
                stray = self._strays.get(timeout=_TICK_SECONDS)
                if not self._end(*stray):
                    # Nothing else would ever end it.
                    self._strays.put(stray)
                    time.sleep(_TICK_SECONDS)
            if self._strays.empty():
                self._idle.set()
            try:
                self.every_second()
            except Exception as error:
                logger.error("upkeep of the process failed", exc_info=error)

    def _end(self, role: str, database: str, pid: int) -> bool:
        """Whether the server has answered: by then it has ended, or was gone before."""
        facts = {"role": role, "backend": pid}
        try:
            ended = directory.get().end_session(role=role, database=database, pid=pid)
            logger.warning("statement ended from outside", extra={**facts, "ended": ended})
            return True
        except Exception as error:
            logger.error("statement runs on behind its connection", extra=facts, exc_info=error)
            return False


shared = Keeper()
end = shared.end
# A forked child has the queue, and not the thread.
os.register_at_fork(after_in_child=lambda: shared.__init__())  # type: ignore[misc]
atexit.register(lambda: shared.flush())
