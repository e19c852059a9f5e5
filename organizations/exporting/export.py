"""Exports all that is stored for one organization, as one ZIP for the customer."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psycopg
from django.conf import settings
from django.db.models import Model
from django.utils import timezone

from organizations import tenancy
from organizations.errors import (
    ExportExists,
    ExportFailed,
    ExportTooLarge,
    OrganizationError,
    ServerUnavailable,
    TookTooLong,
)
from organizations.migrating.turn import explain
from organizations.models import Organization
from organizations.postgres import trouble
from organizations.provisioning import media
from organizations.tenancy import guard, storage, trail

from . import contents
from .bounds import Bounds
from .zipped import Archive

FORMAT = 1
AUDIT = "audit_entries.jsonl"
FILES = "files/"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. rows: of the models and of the trail."""

    path: Path
    size_bytes: int
    rows: int
    files: int


def export_organization(
    organization: Organization, path: Path, *, goes_on: Callable[[], bool] = lambda: True
) -> Exported:
    """Write a new ZIP: JSON lines for each tenant model, files, audit entries, a manifest.

    goes_on: false ends it. The rows are of one moment; each file is of the moment it is read. The
    ZIP gets its name only once it is complete. Recorded in the organization's trail first.
    Raises ExportExists, ExportFailed, ExportTookTooLong, ExportTooLarge, ServerUnavailable,
    TookTooLong, TooBusy, CredentialUnreadable, InstallationUnclaimed and what the master's database
    raises before it begins.
    """
    if os.path.lexists(path):
        raise ExportExists(str(path))
    media.require(even_of_none=False)
    bounds = Bounds(organization.name, goes_on)
    trail.record("organization.exported", organization_id=organization.pk)
    try:
        with _completed(path) as file:
            parts = _write(organization, file, bounds)
            size = file.tell()
    except FileExistsError as error:
        raise ExportExists(str(path)) from error
    except (OrganizationError, tenancy.TooBusy):
        raise
    except OSError as error:
        raise ExportFailed(organization.name, error.strerror or type(error).__name__) from error
    except Exception as error:
        bounds()  # Its deadline may have ended the statement.
        raise _told(error, organization.name) from error
    return Exported(
        path,
        size,
        rows=sum(part.get("rows", 0) for part in parts),
        files=sum(part["name"].startswith(FILES) for part in parts),
    )


def _told(error: Exception, name: str) -> OrganizationError:
    """An error of the organization's database as one of ours."""
    cause = trouble.cause_of(error)
    if isinstance(cause, guard.AnswerTooLarge):
        setting = "ORG_MAX_ANSWER_BYTES"
        return ExportTooLarge(name, "a row", setting=setting, most=settings.ORG_MAX_ANSWER_BYTES)
    told = trouble.told(cause) if isinstance(cause, psycopg.Error) else None
    if isinstance(told, ServerUnavailable | TookTooLong):
        return told  # A job tries again.
    return ExportFailed(name, explain(error))


def _write(organization: Organization, file: IO[bytes], bounds: Bounds) -> list[dict[str, Any]]:
    facts = {
        "format": FORMAT,
        "organization": {
            "id": organization.pk,
            "name": organization.name,
            "slug": organization.slug,
            "admin_email": organization.admin_email,
            "created_at": organization.created_at.isoformat(),
        },
        "began_at": timezone.now().isoformat(),
        # It identifies the migrations that made the tables.
        "fingerprint": organization.fingerprint,
        "left_out": list(_left_out()),
    }
    with Archive(file, bounds.spend) as archive:
        with tenancy.override(organization.tenant), tenancy.atomic():
            contents.begin(owner=organization.name, ends_at=bounds.until)
            for model in contents.models():
                with archive.part(_part_of(model), has_rows=True) as part:
                    contents.write_rows(part, model)
        with archive.part(AUDIT, has_rows=True) as part:
            contents.write_entries(part, organization.pk)
        folder, itself = storage.folder_of(organization.key), os.fstat(file.fileno())
        for name, content in contents.files(folder, besides=itself):
            with archive.part(FILES + name, has_rows=False) as part:
                contents.write_file(part, content)
        media.require(even_of_none=False)  # Files of an unmounted disk were skipped as if deleted.
        archive.end(facts)
        return archive.parts


def _part_of(model: type[Model]) -> str:
    return f"{model._meta.label_lower}.jsonl"


def _left_out() -> Iterator[dict[str, str]]:
    for model in contents.models():
        for field, reason in contents.left_out(model).items():
            yield {"model": model._meta.label_lower, "field": field, "reason": reason}


@contextmanager
def _completed(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when the block has ended without an error.

    If killed, it leaves `.export-….part` beside it. Raises FileExistsError.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".export-", suffix=".part")
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _name(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _name(temporary: str, path: Path) -> None:
    """Give the file its name. Raises FileExistsError."""
    try:
        os.link(temporary, path)  # Unlike a rename it replaces nothing.
    except FileExistsError:
        raise
    except OSError:  # Not every file system has links.
        if os.path.lexists(path):
            raise FileExistsError from None
        os.rename(temporary, path)
