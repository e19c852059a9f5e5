"""Packs an organization's files into one uncompressed tar, made while it is stored."""

import os
import tarfile
from pathlib import Path
from typing import IO

from organizations.errors import BackupFailed
from organizations.tenancy import walking

from .encryption import Chunks
from .storing import CHUNK_BYTES


class Archive:
    """An archive of the folder's files. count: how many, once all chunks were read.

    name: the organization's, for errors.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        self.count = 0
        self._folder = folder
        self._name = name

    def chunks(self) -> Chunks:
        """The archive. Raises BackupFailed if something cannot be read; not if it was deleted
        meanwhile."""
        try:
            for path, file, facts in walking.files(self._folder):
                self.count += 1
                yield from _member(path, file, facts)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise BackupFailed(self._name, f"its files cannot be read ({why}).") from error
        yield tarfile.NUL * tarfile.BLOCKSIZE * 2


def _member(path: Path, file: IO[bytes], facts: os.stat_result) -> Chunks:
    member = tarfile.TarInfo(str(path))
    member.size, member.mtime, member.mode = facts.st_size, int(facts.st_mtime), 0o600
    yield member.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
    left = member.size
    # A growing one is being written right now, and no row names it.
    for chunk in walking.blocks(file, most=left, size=CHUNK_BYTES):
        left -= len(chunk)
        yield chunk
    # One that shrank: its size was written already.
    yield tarfile.NUL * (left + -member.size % tarfile.BLOCKSIZE)
