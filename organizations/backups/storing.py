"""Writes, reads and removes the files of backups, in STORAGES["backups"]."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import IO, Any

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage, storages

from organizations.errors import (
    BackupDamaged,
    BackupStorageFailed,
    BackupStorageUnknown,
    OrganizationError,
)
from organizations.models import Installation
from organizations.tenancy import TooBusy

from . import encryption, manifest
from .encryption import Chunks
from .manifest import Part

logger = logging.getLogger(__name__)

DUMP, FILES = "database.dump", "files.tar"
CHUNK_BYTES = 1_000_000


def storage() -> Storage:
    """The storage of backups."""
    return storages["backups"]


def require_ours() -> None:
    """Raise BackupStorageUnknown unless the storage has this installation's mark.

    Otherwise an unmounted disk would look like lost backups.
    """
    mark = _mark()
    with _told("its mark was not looked up"):
        is_ours = storage().exists(mark)
    if not is_ours:
        raise BackupStorageUnknown(mark)


def claim() -> None:
    """Mark the storage as this installation's. Only while the master knows of no backup."""
    mark = _mark()
    with _told("its mark was not stored"), suppress(FileExistsError):
        if not storage().exists(mark):
            _require_name(mark, ContentFile(b""))
            _sync(mark, "")


def _mark() -> str:
    # A name without content: it is there or not, never half written.
    return f"installation-{Installation.objects.values_list('key', flat=True).get(pk=1)}"


class Incoming:
    """A file on its way into the storage, as `incoming` gives it."""

    def __init__(self, name: str, spool: IO[bytes] | None) -> None:
        self._name = name
        self._spool = spool
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._key = next(iter(encryption.key_ids()), "")

    def take(self, chunks: Chunks) -> None:
        """Read the chunks, and encrypt them if there is a key. Raises BackupStorageFailed, and what
        they raise; then a part of them may be stored."""
        if self._key:
            chunks = encryption.encrypted(chunks, self._key)
        with closing(chunks), _told(f"{self._name} was not stored"):
            if self._spool is None:
                _require_name(self._name, _Stream(self._metered(chunks)))
                return
            for chunk in self._metered(chunks):
                self._spool.write(chunk)

    def finish(self, watch: Callable[[], None]) -> Part:
        """Store it for good. watch: called repeatedly; what it raises ends it."""
        with _told(f"{self._name} was not stored"):
            if self._spool is None:
                _sync(self._name)
            else:
                self._spool.seek(0)
                watched: Any = _Watched(self._spool, watch)
                _require_name(self._name, File(watched, self._name))
        name = os.path.basename(self._name)
        return Part(name, self._bytes, self._digest.hexdigest(), self._key)

    def _metered(self, chunks: Chunks) -> Chunks:
        for chunk in chunks:
            self._digest.update(chunk)
            self._bytes += len(chunk)
            yield chunk


@contextmanager
def incoming(folder: str, name: str) -> Iterator[Incoming]:
    """A new file of this name in the folder: its `take` reads, its `finish` stores.

    A folder gets the chunks at once. Other storages seek, or ask for the size, and can take long:
    `finish` gives them a temporary file, once no snapshot is held for it.
    """
    if isinstance(storage(), FileSystemStorage):
        yield Incoming(f"{folder}/{name}", None)
        return
    with tempfile.TemporaryFile() as spool:
        yield Incoming(f"{folder}/{name}", spool)


def store_manifest(folder: str, content: bytes) -> None:
    """Store it last, after which a crash of the machine loses nothing. Raises
    BackupStorageFailed."""
    name = f"{folder}/{manifest.NAME}"
    with _told("the manifest was not stored"):
        _require_name(name, ContentFile(content))
        _sync(name, folder, os.path.dirname(folder), "")


def folders_of(organization_key: str) -> list[str]:
    """The folders of the organization's backups. Raises BackupStorageFailed."""
    require_ours()
    with _told("its backups were not listed"):
        try:
            names, _ = storage().listdir(organization_key)
        except FileNotFoundError:
            return []
    return sorted(f"{organization_key}/{name}" for name in names)


def read_manifest(folder: str) -> bytes:
    """The manifest, unchecked. Raises BackupDamaged and BackupStorageFailed."""
    with _reading(folder, manifest.NAME) as file:
        content: bytes = file.read(manifest.MOST_BYTES + 1)
    if len(content) > manifest.MOST_BYTES:
        raise BackupDamaged(folder, "its manifest is too large")
    return content


def read(folder: str, part: Part) -> Chunks:
    """The part's chunks, decrypted. Raises BackupDamaged after the last one if they are not what
    was stored, BackupKeyMissing and BackupStorageFailed."""
    chunks = _stored(folder, part)
    if part.key:
        return encryption.decrypted(chunks, part.key, backup=folder, name=part.name)
    return chunks


def _stored(folder: str, part: Part) -> Chunks:
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

    Raises BackupStorageFailed, and BackupStorageUnknown.
    """
    require_ours()
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


class _Watched:
    """A file whose reader `watch` can end by raising."""

    def __init__(self, file: IO[bytes], watch: Callable[[], None]) -> None:
        self._file = file
        self._watch = watch

    def read(self, *size: int) -> bytes:
        self._watch()
        return self._file.read(*size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _require_name(name: str, content: "File[Any]") -> None:
    """Save it under this name. Storages choose another one if it is taken."""
    where = storage()
    saved = where.save(name, content)
    if saved != name:
        where.delete(saved)
        raise FileExistsError


def _sync(*names: str) -> None:
    """Have the disk write files and folders that are stored."""
    where = storage()
    if not isinstance(where, FileSystemStorage):
        return
    for name in names:
        number = os.open(where.path(name), os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def _reading(folder: str, name: str) -> Iterator[IO[Any]]:
    with _told(f"{name} was not read"):
        try:
            file = storage().open(f"{folder}/{name}", "rb")
        except FileNotFoundError as error:
            require_ours()
            raise BackupDamaged(folder, f"{name} is missing") from error
        with file:
            yield file


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Raise a storage's errors as ours, without their text, which can name host, bucket or path."""
    try:
        yield
    except (OrganizationError, TooBusy):
        raise
    except Exception as error:
        why = type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            why = os.strerror(error.errno)
        raise BackupStorageFailed(what, why) from error
