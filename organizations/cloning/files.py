"""Copies an organization's files into a new folder."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

from organizations.errors import CloneFailed
from organizations.tenancy import walking

_BLOCK_BYTES = 1_000_000


def copy(source: Path, target: Path, *, name: str, watch: Callable[[], None]) -> int:
    """Copy the regular files below `source`, which need not exist. Returns how many.

    One that is deleted meanwhile is left out. name: the organization's, for CloneFailed. watch:
    called repeatedly; what it raises ends it.
    """
    count = 0
    try:
        if not source.is_dir():
            return 0
        for path, files in walking.folders(source):
            folder = target / path
            # Unused yet: the key in its name is new.
            os.makedirs(folder, exist_ok=folder != target)
            for each, file, facts in files:
                _copy_one(file, facts, folder / each, watch)
                count += 1
            _sync(folder)
        _sync(target.parent)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise CloneFailed(name, f"its files cannot be copied ({why}).") from error
    return count


def _copy_one(
    file: IO[bytes], facts: os.stat_result, target: Path, watch: Callable[[], None]
) -> None:
    with open(target, "xb") as copied:
        for block in walking.blocks(file, most=facts.st_size, size=_BLOCK_BYTES):
            watch()
            copied.write(block)
        copied.flush()
        os.fchmod(copied.fileno(), stat.S_IMODE(facts.st_mode))
        os.fsync(copied.fileno())


def _sync(folder: Path) -> None:
    """Flush its names to disk: the row that is committed next relies on them."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
