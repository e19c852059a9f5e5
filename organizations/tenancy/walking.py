"""Walks over an organization's files. No link is followed: it can lead out of the folder."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def files(folder: Path) -> Iterator[tuple[Path, IO[bytes], os.stat_result]]:
    """The regular files below the folder, each open until the next: its path below it, the file,
    and what the disk says of it.

    One that is deleted meanwhile is left out. Raises OSError for what cannot be listed or opened.
    """
    for parent, found in folders(folder):
        for name, file, facts in found:
            yield parent / name, file, facts


def folders(folder: Path) -> Iterator[tuple[Path, Iterator[tuple[str, IO[bytes], os.stat_result]]]]:
    """The same by folders, of which some have no files. The first is `.`, the folder itself."""
    for parent, below, names in os.walk(folder, onerror=_unless_deleted):
        below.sort()
        yield Path(os.path.relpath(parent, folder)), _opened(parent, sorted(names))


def _opened(parent: str, names: list[str]) -> Iterator[tuple[str, IO[bytes], os.stat_result]]:
    for name in names:
        path = os.path.join(parent, name)
        try:
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            if os.path.isfile(path) and not os.path.islink(path):
                raise
            continue
        with open(number, "rb") as file:
            facts = os.fstat(number)
            if stat.S_ISREG(facts.st_mode):
                yield name, file, facts


def _unless_deleted(error: OSError) -> None:
    """os.walk leaves out what it cannot list."""
    if not isinstance(error, FileNotFoundError):
        raise error


def blocks(file: IO[bytes], *, most: int, size: int) -> Iterator[bytes]:
    """The file's bytes in blocks of `size`, at most so many: one that grows would have no end."""
    left = most
    while left and (block := file.read(min(left, size))):
        left -= len(block)
        yield block
