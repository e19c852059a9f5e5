"""File storage: each organization's files in a folder named by its random key.

It is `STORAGES["default"]`, so a FileField of a tenant app is an ordinary one. There is no public
folder: a view of the app looks the object up, which checks access, and answers with `download`.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import File
from django.core.files.storage import FileSystemStorage
from django.db.models.fields.files import FieldFile
from django.http import FileResponse
from django.utils.deconstruct import deconstructible

from . import directory
from .context import get
from .errors import NoFileAddress

logger = logging.getLogger(__name__)

_KEY = re.compile(r"[0-9a-f]{32}")
# File systems limit names to 255 bytes; Django adds 8 characters to a name that is taken.
_LONGEST_NAME_BYTES = 200


@deconstructible(path="organizations.tenancy.storage.TenantStorage")
class TenantStorage(FileSystemStorage):
    """Django's file storage, inside the active organization's folder in MEDIA_ROOT.

    Raises NoTenant if none is active, SuspiciousFileOperation for a name that leads out of the
    folder, and OrganizationReadOnly for a write or a deletion in an organization that takes none.
    """

    @property
    def location(self) -> str:
        """Never cached: one storage serves all organizations."""
        return str(folder_of(get().key, root=self.base_location))

    def path(self, name: str) -> str:
        """The file's path."""
        if "\0" in str(name):
            raise SuspiciousFileOperation("The file name contains a null character.")
        return super().path(name)

    def get_valid_name(self, name: str) -> str:
        """Django's, shortened to the bytes that a file system allows."""
        stem, extension = os.path.splitext(super().get_valid_name(name))
        extension = _cut(extension, 50)
        return _cut(stem, _LONGEST_NAME_BYTES - len(extension.encode())) + extension

    def open(self, name: str, mode: str = "rb") -> "File[Any]":
        """Django's."""
        if set(mode) & set("wax+"):
            refuse_if_read_only()
        return super().open(name, mode)

    def save(self, name: str | None, content: IO[Any], max_length: int | None = None) -> str:
        """Django's."""
        refuse_if_read_only()
        return super().save(name, content, max_length)

    def delete(self, name: str) -> None:
        """Django's."""
        refuse_if_read_only()
        super().delete(name)

    def url(self, name: str | None) -> str:
        """Files have no URL, which would serve anybody who knows it. Raises NoFileAddress."""
        raise NoFileAddress(str(name))


def refuse_if_read_only() -> None:
    """Raise OrganizationReadOnly if the active organization takes no write; NoTenant."""
    tenant = get()
    # Its place says it, unless it has none: then only the master knows.
    if tenant.place is None or tenant.place.is_read_only:
        refusal = directory.get().refusal_of_write(tenant)
        if refusal is not None:
            raise refusal


def _cut(text: str, at_most_bytes: int) -> str:
    return text.encode()[:at_most_bytes].decode(errors="ignore")


def download(file: FieldFile) -> FileResponse:
    """The response of a view that gives the caller this file.

    As an attachment of a type that no browser runs, since the upload may be a page. Raises
    WrongTenant for another organization's object, and FileNotFoundError.
    """
    # The underlying file: it is read after the request has left its organization.
    return FileResponse(
        file.open("rb").file,
        as_attachment=True,
        filename=os.path.basename(str(file.name)),
        content_type="application/octet-stream",
    )


def folder_of(key: str, *, root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the organization with this key, which may not exist yet."""
    if not _KEY.fullmatch(key):
        # An empty key would give the folder of all organizations.
        raise ValueError("An organization's key has 32 hexadecimal digits.")
    return Path(os.path.abspath(settings.MEDIA_ROOT if root is None else root), key)


def folders_of(key: str) -> list[Path]:
    """All folders of the organization with this key: its files, and its exports."""
    folders = (folder_of(key, root=root) for root in (settings.MEDIA_ROOT, settings.EXPORTS_ROOT))
    return [folder for folder in folders if os.path.lexists(folder)]


def keys() -> Iterator[str]:
    """The keys of the organizations with a folder in MEDIA_ROOT or EXPORTS_ROOT."""
    yield from keys_in(settings.MEDIA_ROOT)
    for key in keys_in(settings.EXPORTS_ROOT):
        if not folder_of(key).is_dir():
            yield key


def keys_in(root: str | os.PathLike[str]) -> Iterator[str]:
    """The keys of the organizations with a folder in this one, which may not exist."""
    try:
        entries = os.scandir(root)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if _KEY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                yield entry.name


def remove(key: str) -> bool:
    """Remove all files of the organization with this key. Returns whether none is left.

    Failures are logged. May be called again.
    """
    removed = [_remove(folder, key=key) for folder in folders_of(key)]
    return all(removed)


def remove_exports(key: str) -> bool:
    """Remove the exports of the organization with this key. Returns whether none is left."""
    return _remove(folder_of(key, root=settings.EXPORTS_ROOT), key=key)


def _remove(folder: Path, *, key: str) -> bool:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        if os.path.lexists(folder):
            logger.error("files not removed", extra={"folder": key}, exc_info=error)
            return False
    return True
