"""Background thread that terminates abandoned server back ends, and runs per-second upkeep.

A back end can run on after its socket was closed, since plpgsql can swallow a cancel. It is
terminated from a session of the master, through the directory. Other upkeep: `every_second`.
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
    """Safe from any thread. Its own thread is a daemon, started when first needed."""

    every_second: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._strays: SimpleQueue[tuple[str, str, int]] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()

    def start(self) -> None:
        """Start the thread unless it runs."""
        if self._thread is not None:
            return
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
                self._thread.start()

    def end(self, role: str, database: str, pid: int) -> None:
        """Have the back end of the role's session with the database terminated, if it exists."""
        self._strays.put((role, database, pid))
        self._idle.clear()
        self.start()

    def flush(self, timeout_seconds: float = _SECONDS_AT_EXIT) -> bool:
        """Wait until nothing is left to terminate; False if time ran out."""
        return self._idle.wait(timeout_seconds)

    def _run(self) -> None:
        while True:
            with suppress(Empty):
                stray = self._strays.get(timeout=_TICK_SECONDS)
                if not self._end(*stray):
                    # Nothing else would ever terminate it.
                    self._strays.put(stray)
                    time.sleep(_TICK_SECONDS)
            if self._strays.empty():
                self._idle.set()
            try:
                self.every_second()
            except Exception as error:
                logger.error("process upkeep failed", exc_info=error)

    def _end(self, role: str, database: str, pid: int) -> bool:
        """Whether the server answered: the back end is then terminated, or was gone before."""
        facts = {"role": role, "backend": pid}
        try:
            ended = directory.get().end_session(role=role, database=database, pid=pid)
            logger.warning("statement terminated by the master", extra={**facts, "ended": ended})
            return True
        except Exception as error:
            logger.error("abandoned statement still runs", extra=facts, exc_info=error)
            return False


shared = Keeper()
end = shared.end
# A forked child has the queue but not the thread.
os.register_at_fork(after_in_child=lambda: shared.__init__())  # type: ignore[misc]
atexit.register(lambda: shared.flush())
