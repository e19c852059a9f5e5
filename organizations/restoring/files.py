"""Restores an organization's files: unpacks them, and swaps folders by renaming."""

import errno
import os
import shutil
import tarfile
from collections.abc import Callable
from contextlib import closing
from io import RawIOBase
from pathlib import Path
from typing import Any

from organizations.backups import storing
from organizations.backups.encryption import Chunks
from organizations.backups.manifest import Manifest
from organizations.errors import BackupNotVerified, RestoreFailed
from organizations.models import BackupRun, random_key
from organizations.provisioning import media
from organizations.tenancy import storage, walking


def unpack(
    run: BackupRun, read: Manifest, key: str, *, name: str, watch: Callable[[], None]
) -> None:
    """Unpack a checked backup's files into the folder of this key; without any, it is empty.

    watch: called repeatedly; what it raises ends it. Raises RestoreFailed, FilesUnknown,
    BackupDamaged and BackupStorageFailed.
    """
    media.require()
    folder = storage.folder_of(key)
    try:
        folder.mkdir(mode=0o700)
        for part in read.parts:
            if part.name == storing.FILES:
                _extract(storing.read(run.folder, part), folder, watch)
        # Flushed to disk before the switch: the old ones are dropped some day.
        os.sync()
    except (OSError, tarfile.TarError) as error:
        why = f"its files were not unpacked ({type(error).__name__}). See the log."
        raise RestoreFailed(name, why) from error


def _extract(chunks: Chunks, folder: Path, watch: Callable[[], None]) -> None:
    source: Any = _Reader(chunks)
    with closing(chunks):  # Else what decrypts them waits for the next one.
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                watch()
                if member.isreg():
                    member.mode = 0o600
                    archive.extract(member, folder, filter="data")
        # Read to the end, where a part raises if it is not what was stored.
        for _ in chunks:
            pass
    for parent, _, _ in os.walk(folder):
        os.chmod(parent, 0o700)


def require_same(
    run: BackupRun, read: Manifest, key: str, *, name: str, watch: Callable[[], None]
) -> None:
    """Raise BackupNotVerified unless a checked backup's files are those in the folder of this key.

    Nobody may write there meanwhile. watch: as for unpack. Raises BackupStorageFailed too.
    """
    there = require_held(run, read, key, name=name, watch=watch)
    if there != read.files:
        why = f"It holds {read.files} files, and the organization has {there}."
        raise BackupNotVerified(name, why)


def require_held(
    run: BackupRun, read: Manifest, key: str, *, name: str, watch: Callable[[], None]
) -> int:
    """Raise BackupNotVerified unless the backup holds each file in the folder of this key as it is
    there. Returns their number. As require_same."""
    folder, count = storage.folder_of(key), 0
    try:
        there = count_in(key)
        for part in read.parts:
            if there and part.name == storing.FILES:
                count = _same(storing.read(run.folder, part), folder, watch)
    except (OSError, tarfile.TarError) as error:
        why = f"Its files could not be compared ({type(error).__name__})."
        raise BackupNotVerified(name, why) from error
    if count != there:
        why = f"It holds {count} of the organization's {there} files as they are."
        raise BackupNotVerified(name, why)
    return there


def count_in(key: str) -> int:
    """The number of files in the folder of this key. Raises OSError."""
    return sum(1 for _ in walking.files(storage.folder_of(key)))


def _same(chunks: Chunks, folder: Path, watch: Callable[[], None]) -> int:
    """How many of the archive's files the folder holds, with the same content."""
    source: Any = _Reader(chunks)
    count = 0
    with closing(chunks), tarfile.open(fileobj=source, mode="r|") as archive:
        for member in archive:
            stored = archive.extractfile(member)
            if stored is None or not (folder / member.name).is_file():
                continue
            with open(folder / member.name, "rb") as here:
                while chunk := here.read(storing.CHUNK_BYTES):
                    watch()
                    if chunk != stored.read(len(chunk)):
                        break
                else:
                    count += not stored.read(1)
    return count


class _Reader(RawIOBase):
    """A file of chunks, read once."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; fewer only at the end."""
        while size < 0 or len(self._left) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._left += chunk
        found, self._left = (
            (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
        )
        return found


def fill(live: str, coming: str, *, name: str) -> bool:
    """Move what the folder of `live` lacks from that of `coming`, and remove the latter. Both are
    keys.

    Returns whether there is such a folder; else nothing is done. Raises RestoreFailed.
    """
    target, source = storage.folder_of(live), storage.folder_of(coming)
    if not target.is_dir():
        return False
    try:
        for parent, _, names in os.walk(source):
            there = target / Path(parent).relative_to(source)
            there.mkdir(mode=0o700, exist_ok=True)
            for each in names:
                if not os.path.lexists(there / each):
                    os.rename(Path(parent) / each, there / each)
        shutil.rmtree(source)
        os.sync()
    except OSError as error:
        why = f"its files were not added to the current ones ({error.strerror})."
        raise RestoreFailed(name, why) from error
    return True


def exchange(*, live: str, coming: str, kept: str) -> None:
    """Make the folder `coming` that of `live`, whose own becomes `kept`. All are keys.

    May be repeated: a killed try has left `coming`, or was done, and then `kept` exists. Raises
    OSError, also where the disk with the files is missing.
    """
    source, target, aside = (storage.folder_of(key) for key in (coming, live, kept))
    if not source.is_dir():
        if aside.is_dir():
            return
        raise FileNotFoundError(errno.ENOENT, f"its folder {coming} is not in MEDIA_ROOT here")
    if target.is_dir():
        # Only if somebody wrote there after the first try was killed.
        os.rename(target, aside / random_key() if aside.is_dir() else aside)
    else:
        # Without it, nothing would show that the kept database has no files.
        aside.mkdir(mode=0o700, exist_ok=True)
    os.rename(source, target)
    os.sync()
