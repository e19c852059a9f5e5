"""Time limit and progress messages of a run."""

import sys
import time
from collections.abc import Iterator


class Clock:
    """Prints progress with the time since the run began, and keeps the run within its limit."""

    def __init__(self, seconds: float) -> None:
        self._began = time.monotonic()
        self._seconds = seconds

    def passed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def left(self) -> float:
        """Seconds until it should have ended."""
        return self._seconds - self.passed()

    def say(self, what: str) -> None:
        """Print a line of progress."""
        minutes, seconds = divmod(int(self.passed()), 60)
        print(f"[{minutes:3d}:{seconds:02d}] {what}", file=sys.stderr, flush=True)

    def rounds(self, count: int, *, seconds: float) -> Iterator[int]:
        """Round numbers from 0: at least one, at most `count`.

        Ends when a round as long as the longest would not fit into `seconds` or the run.
        """
        began, longest = time.monotonic(), 0.0
        for number in range(count):
            round_began = time.monotonic()
            fits = round_began - began + longest <= seconds and longest <= self.left()
            if number and not fits:
                return
            yield number
            longest = max(longest, time.monotonic() - round_began)
