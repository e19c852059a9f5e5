"""Tells a command's loop when to stop: at SIGTERM, SIGINT, or the end of its parent process."""

import os
import signal
import time
from types import FrameType


class UntilStopped:
    """Replaces the handlers of both signals. with_parent: stop too when the parent ends."""

    def __init__(self, *, with_parent: bool) -> None:
        self._is_stopped = False
        self._parent = os.getppid() if with_parent else 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def goes_on(self) -> bool:
        """Whether to begin something else. What runs is finished: it takes a moment."""
        return not self._is_stopped and self._parent in (0, os.getppid())

    def pause(self, seconds: float) -> None:
        """Sleep, but no longer than it goes on."""
        until = time.monotonic() + seconds
        while self.goes_on() and time.monotonic() < until:
            time.sleep(min(0.2, seconds))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopped = True
