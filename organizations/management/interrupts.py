"""Makes SIGTERM end a command as Ctrl-C does, so that it cleans up."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside the block."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # Not the main thread: the command was called from code.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
