"""The organization's files as one archive: an uncompressed tar, made while it is stored."""

import os
import stat
import tarfile
from pathlib import Path

from organizations.errors import BackupFailed

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
            for parent, folders, names in os.walk(self._folder, onerror=_refuse):
                folders.sort()
                for name in sorted(names):
                    yield from self._member(Path(parent, name))
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise BackupFailed(self._name, f"its files cannot be read ({why}).") from error
        yield tarfile.NUL * tarfile.BLOCKSIZE * 2

    def _member(self, path: Path) -> Chunks:
        try:
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return  # Deleted meanwhile.
        except OSError:
            if path.is_symlink():
                return  # It is none of the organization's.
            raise
        with open(number, "rb") as file:
            facts = os.fstat(number)
            if not stat.S_ISREG(facts.st_mode):
                return
            member = tarfile.TarInfo(str(path.relative_to(self._folder)))
            member.size, member.mtime, member.mode = facts.st_size, int(facts.st_mtime), 0o600
            self.count += 1
            yield member.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
            left = member.size
            # One that grows is written right now, and no row names it.
            while left and (chunk := file.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk
            # One that shrank: its size was written already.
            yield tarfile.NUL * (left + -member.size % tarfile.BLOCKSIZE)


def _refuse(error: OSError) -> None:
    """os.walk leaves out what it cannot list."""
    if not isinstance(error, FileNotFoundError):
        raise error
