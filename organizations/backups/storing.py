"""Writes, reads and removes the files of backups, in STORAGES["backups"]."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import IO, Any

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage, storages

from organizations.errors import BackupDamaged, BackupStorageFailed, OrganizationError

from . import manifest
from .manifest import Part

logger = logging.getLogger(__name__)

DUMP, FILES = "database.dump", "files.tar"
CHUNK_BYTES = 1_000_000
Chunks = Generator[bytes, None, None]


def storage() -> Storage:
    """The storage of backups."""
    return storages["backups"]


def store(folder: str, name: str, chunks: Chunks) -> Part:
    """Store the chunks as a file of this name in the folder. Raises BackupStorageFailed, and what
    the chunks raise; then a part of it may be stored."""
    digest = hashlib.sha256()
    count = 0

    def metered() -> Chunks:
        nonlocal count
        for chunk in chunks:
            digest.update(chunk)
            count += len(chunk)
            yield chunk

    with closing(chunks), _told(f"{name} was not stored"):
        _save(f"{folder}/{name}", metered())
    return Part(name, count, digest.hexdigest())


def store_manifest(folder: str, content: bytes) -> None:
    """Store it last. Raises BackupStorageFailed."""
    with _told("the manifest was not stored"):
        _require_name(f"{folder}/{manifest.NAME}", ContentFile(content))


def read_manifest(folder: str) -> bytes:
    """The manifest, unchecked. Raises BackupDamaged and BackupStorageFailed."""
    with _reading(folder, manifest.NAME) as file:
        content: bytes = file.read(manifest.MOST_BYTES + 1)
    if len(content) > manifest.MOST_BYTES:
        raise BackupDamaged(folder, "its manifest is larger than any")
    return content


def read(folder: str, part: Part) -> Chunks:
    """The part's chunks. Raises BackupDamaged after the last one if they are not what was stored,
    and BackupStorageFailed."""
    digest = hashlib.sha256()
    count = 0
    with _reading(folder, part.name) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            count += len(chunk)
            if count > part.bytes:
                break
            yield chunk
    if count < part.bytes:
        raise BackupDamaged(folder, f"{part.name} has {count} of {part.bytes} bytes")
    if (count, digest.hexdigest()) != (part.bytes, part.sha256):
        raise BackupDamaged(folder, f"{part.name} is not what was stored (SHA-256)")


def remove(folder: str) -> None:
    """Remove what is stored in a backup's folder, the manifest first. May be called again.

    Raises BackupStorageFailed.
    """
    where = storage()
    with _told("files were not removed"):
        for name in (manifest.NAME, DUMP, FILES):
            where.delete(f"{folder}/{name}")
        if isinstance(where, FileSystemStorage):
            where.delete(folder)
            # The organization's own, after its last backup.
            with suppress(OSError):
                os.rmdir(where.path(os.path.dirname(folder)))


class _Stream(File):  # type: ignore[type-arg]
    """A file that can be read once, by chunks."""

    def __init__(self, chunks: Chunks) -> None:
        super().__init__(None)
        self._chunks = chunks

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        return self._chunks


def _save(name: str, chunks: Chunks) -> None:
    if isinstance(storage(), FileSystemStorage):
        _require_name(name, _Stream(chunks))
        return
    # Others seek, or ask for the size: by a temporary file, as large as a part may be.
    with tempfile.TemporaryFile() as file:
        for chunk in chunks:
            file.write(chunk)
        file.seek(0)
        _require_name(name, File(file, name))


def _require_name(name: str, content: "File[Any]") -> None:
    """Save it under this name. Storages choose another one if it is taken."""
    where = storage()
    saved = where.save(name, content)
    if saved != name:
        where.delete(saved)
        raise FileExistsError


@contextmanager
def _reading(folder: str, name: str) -> Iterator[IO[Any]]:
    with _told(f"{name} was not read"):
        try:
            file = storage().open(f"{folder}/{name}", "rb")
        except FileNotFoundError as error:
            raise BackupDamaged(folder, f"{name} is missing") from error
        with file:
            yield file


@contextmanager
def _told(what: str) -> Iterator[None]:
    """A storage can raise anything, with its host, bucket or path in the text."""
    try:
        yield
    except OrganizationError:
        raise
    except Exception as error:
        why = type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            why = os.strerror(error.errno)
        raise BackupStorageFailed(what, why) from error
