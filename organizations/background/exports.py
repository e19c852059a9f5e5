"""Enqueues exports for an organization's own admins, reports their state, and opens the file.

All functions but prune are about the active organization. It has at most one complete export, a
file in its folder in EXPORTS_ROOT; everything else is in the queue.
"""

import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core import signing
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from organizations import tenancy
from organizations.audit import unmarked
from organizations.errors import ExportNotFound
from organizations.jobs.frame import lock_of
from organizations.tenancy import storage, trail

from .enqueueing import in_master
from .newest import newest_job

logger = logging.getLogger(__name__)

TASK, QUEUE = "export_organization", "exports"
LIFETIME = timedelta(days=1)
_LINK_LIFETIME = timedelta(minutes=15)
_NAME = re.compile(r"[0-9a-f]{32}")
# Incomplete ones, which only a killed process leaves.
_PARTS = re.compile(r"\.export-\w+\.part")
_OURS = re.compile(rf"[0-9a-f]{{32}}\.zip|{_PARTS.pattern}")
_LONGEST_TOKEN = 1_000


@dataclass(frozen=True, slots=True)
class Export:
    """The newest one. name, size_bytes, made_at: only if it is ready."""

    state: str
    name: str = ""
    size_bytes: int = 0
    made_at: datetime | None = None

    @property
    def expires_at(self) -> datetime | None:
        """When it is deleted."""
        return self.made_at and self.made_at + LIFETIME


def ask(*, mark: Callable[[], object] = unmarked) -> Export:
    """Enqueue an export, unless one waits or is being written; it replaces the previous one.

    mark: called in the commit.
    """
    found = newest()
    if found.state in ("waiting", "running"):
        mark()
        return found
    organization_id = tenancy.get().organization_id
    job = app.tasks[TASK].configure(
        lock=lock_of(organization_id), queueing_lock=f"export:{organization_id}"
    )
    try:
        with in_master():
            trail.record("export.asked")
            job.defer(organization_id=organization_id, name=secrets.token_hex(16))
            mark()
    except AlreadyEnqueued:
        mark()  # Another request was first.
    return Export("waiting")


def newest() -> Export:
    """The newest export; the state is none, waiting, running, ready or failed."""
    job = newest_job(TASK, tenancy.get().organization_id)
    if job.state == "none" or job.is_under_way:
        return Export(job.state)
    name = str(job.args.get("name", ""))
    try:
        # Even if the job failed: a second worker that took this one for dead may have made it.
        found = os.stat(_path_of(name))
    except FileNotFoundError:
        return Export("failed" if job.state == "failed" else "none")
    if _is_expired(found):
        return Export("none")
    return Export("ready", name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def link(export: Export, *, login: object) -> str:
    """The token of a link to it, valid with this login only, and for a short time."""
    content = {"org": tenancy.get().organization_id, "login": str(login), "name": export.name}
    return _signer().sign_object(content)


def open_file(token: str, *, login: object) -> IO[bytes]:
    """The export of a link. Recorded. Raises ExportNotFound."""
    try:
        if len(token) > _LONGEST_TOKEN:
            raise ExportNotFound
        content = _signer().unsign_object(token, max_age=_LINK_LIFETIME)
        if content["org"] != tenancy.get().organization_id or content["login"] != str(login):
            raise ExportNotFound
        file = open(_path_of(content["name"]), "rb")  # noqa: SIM115 - the response closes it
    # One error for everything that can be wrong with a token.
    except (signing.BadSignature, KeyError, ValueError, TypeError, FileNotFoundError) as error:
        raise ExportNotFound from error
    try:
        if _is_expired(os.fstat(file.fileno())):
            raise ExportNotFound
        trail.record("export.downloaded")
    except BaseException:
        file.close()
        raise
    return file


def new_path(name: str) -> Path:
    """Where to write the export with this name; creates its folder.

    Deletes incomplete ones, which killed tries leave. A worker wrongly taken for dead, which still
    writes one, fails at the end.
    """
    path = _path_of(name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _delete(path.parent, lambda entry: _PARTS.fullmatch(entry.name) is not None)
    return path


def keep_only(name: str) -> None:
    """Delete the others."""
    _delete(_folder(), lambda entry: entry.path != str(_path_of(name)))


def prune(keys: Iterable[str] | None = None) -> None:
    """Delete what has expired, of the organizations with these keys or of all.

    By the age of the files alone, so that no organization's database can prevent it. Failures are
    logged.
    """
    for key in storage.keys_in(settings.EXPORTS_ROOT) if keys is None else keys:
        folder = storage.folder_of(key, root=settings.EXPORTS_ROOT)
        try:
            _delete(folder, lambda entry: _is_expired(entry.stat(follow_symlinks=False)))
        except OSError as error:
            logger.error("expired export not deleted", extra={"folder": key}, exc_info=error)


def _delete(folder: Path, is_meant: Callable[[os.DirEntry[str]], bool]) -> None:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                # Nothing else, in case the folder has the organization's files by mistake.
                if _OURS.fullmatch(entry.name) and is_meant(entry):
                    os.unlink(entry.path)


def _folder() -> Path:
    return storage.folder_of(tenancy.get().key, root=settings.EXPORTS_ROOT)


def _path_of(name: str) -> Path:
    """Raises ExportNotFound for a name that none has."""
    if not _NAME.fullmatch(name):
        raise ExportNotFound
    return _folder() / f"{name}.zip"


def _is_expired(file: os.stat_result) -> bool:
    return time.time() - file.st_mtime > LIFETIME.total_seconds()


def _signer() -> signing.TimestampSigner:
    return signing.TimestampSigner(salt="organizations.exports", sep=".")
