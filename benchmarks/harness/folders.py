"""Folders for a run's PostgreSQL, their removal, and the check of free disk space."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


@contextmanager
def temporary() -> Iterator[Path]:
    """A new folder that PostgreSQL's user may pass through; removed after the block.

    Below TMPDIR.
    """
    folder = Path(tempfile.mkdtemp(prefix="orgmgmt-bench-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lasting(folder: Path) -> Iterator[Path]:
    """A folder that stays, for a run that can continue. PermissionError if it is another user's."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else. Name another by --folder.")
    yield folder


def end_in_order() -> None:
    """Let SIGTERM end this program as Ctrl-C does, so that every block cleans up."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


def require_disk(folder: Path, needed_bytes: int) -> None:
    """Exit if the disk is too full for the run. What an earlier run has made counts as free."""
    parent = next(each for each in (folder, *folder.parents) if each.exists())
    room = shutil.disk_usage(parent).free + size_bytes(folder)
    if room < needed_bytes:
        sys.exit(
            f"{folder} has room for {room / 1e9:.0f} GB; {needed_bytes / 1e9:.0f} are needed. "
            "Make room, or name another folder: by TMPDIR, or for bench-large by --folder."
        )


def size_bytes(folder: Path) -> int:
    """Disk space that the folder uses; 0 if it does not exist."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except OSError:
                continue  # PostgreSQL removes files while they are counted.
    return total
