"""Copies an organization's files into a new folder."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from organizations.errors import CloneFailed

_BLOCK_BYTES = 1_000_000


def copy(source: Path, target: Path, *, name: str, watch: Callable[[], None]) -> int:
    """Copy the regular files below `source`, which need not exist. Returns how many.

    No link is followed: it can lead out of the folder. One that is deleted meanwhile is left out.
    name: the organization's, for CloneFailed. watch: called again and again; what it raises ends
    it.
    """
    count = 0
    try:
        if not source.is_dir():
            return 0
        for parent, _, names in os.walk(source, onerror=_unless_deleted):
            folder = target / os.path.relpath(parent, source)
            # Nobody's yet: the key in its name is new.
            os.makedirs(folder, exist_ok=folder != target)
            for each in names:
                count += _copy_one(Path(parent, each), folder / each, watch)
            _sync(folder)
        _sync(target.parent)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise CloneFailed(name, f"its files cannot be copied ({why}).") from error
    return count


def _copy_one(source: Path, target: Path, watch: Callable[[], None]) -> bool:
    try:
        number = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        if source.is_symlink():
            return False
        raise
    with open(number, "rb") as file:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode):
            return False
        with open(target, "xb") as copied:
            while block := file.read(_BLOCK_BYTES):
                watch()
                copied.write(block)
            copied.flush()
            os.fchmod(copied.fileno(), stat.S_IMODE(facts.st_mode))
            os.fsync(copied.fileno())
    return True


def _sync(folder: Path) -> None:
    """Have the disk write its names: the row that is committed next counts on them."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _unless_deleted(error: OSError) -> None:
    """os.walk leaves out what it cannot list."""
    if not isinstance(error, FileNotFoundError):
        raise error
