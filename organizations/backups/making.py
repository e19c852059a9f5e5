"""Backs up one organization: a dump of its database by its own role, its files, and a manifest."""

import logging
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic
from typing import Any

from django.conf import settings

from organizations.errors import (
    BackupFailed,
    BackupTookTooLong,
    BackupTooLarge,
    OrganizationNotFound,
    SessionEnded,
)
from organizations.models import BackupRun, Organization
from organizations.postgres import identity, programs, transfer
from organizations.postgres.sessions import ServerSession
from organizations.provisioning import code
from organizations.provisioning.undoing import expected
from organizations.secrets import unseal
from organizations.tenancy import storage

from . import runs, snapshot, storing
from .manifest import Manifest, Part
from .storing import Chunks

logger = logging.getLogger(__name__)


def back_up(organization: Organization, *, goes_on: Callable[[], bool] = lambda: True) -> BackupRun:
    """Make a backup of an active or suspended organization.

    goes_on: false ends it. Takes no lock of the organization's: a deletion, a suspension and
    migrations go on, and the first two end it. Raises OrganizationNotFound, BackupRunning,
    BackupObstructed, BackupLocked, BackupTookTooLong, BackupTooLarge, BackupStorageFailed,
    BackupFailed, SessionEnded, DatabaseKept, CredentialUnreadable, HistoryUnreadable,
    ProgramMissing, ProgramTooOld, ProvisioningInTransaction, InstallationUnclaimed,
    ServerUnavailable and ServerRefused. Then the run is recorded as failed, and nothing of it is
    left.
    """
    with runs.locked(organization.key, name=organization.name) as session:
        runs.end_interrupted(session, organization.key)
        reachable = Organization.objects.reachable().filter(pk=organization.pk).first()
        if reachable is None:
            raise OrganizationNotFound(organization.name)
        run = runs.begin(reachable)
        try:
            _Making(session, reachable, run, goes_on).make()
        except BaseException as error:
            runs.fail(run, error)
            raise
    facts = {"organization": organization.pk, "bytes": run.bytes}
    logger.info("organization backed up", extra=facts)
    return run


class _Making:
    """One backup."""

    def __init__(
        self,
        session: ServerSession,
        organization: Organization,
        run: BackupRun,
        goes_on: Callable[[], bool],
    ) -> None:
        self._session = session
        self._organization = organization
        self._run = run
        self._goes_on = goes_on
        self._until = monotonic() + settings.BACKUP_DEADLINE_SECONDS

    def make(self) -> None:
        row = self._organization
        # What the server has under the row's names must be the row's.
        if identity.certain(self._session, expected(row)).database is None:
            raise BackupFailed(row.name, "its database is missing. See manage.py check_orgs.")
        password = unseal(row.sealed_password, owner=row.name)
        where = transfer.parameters(row.database_name, row.role_name, password)
        client = programs.major_version(
            "pg_dump", at_least=self._session.connection.info.server_version // 10_000
        )
        with snapshot.open_snapshot(row, where, until=self._until) as (held, shown):
            dump = self._store(storing.DUMP, self._dump(where, held, shown, client))
        parts = [dump]
        # Files after the database: no row names a missing one, unless it was deleted since.
        folder = storage.folder_of(row.key)
        if folder.is_dir():
            parts.append(self._store(storing.FILES, _tar(folder)))
        manifest = Manifest(
            installation=self._session.installation,
            organization=row.key,
            backup=self._run.key,
            started_at=self._run.started_at.isoformat(),
            database_oid=shown.database_oid,
            server_version=shown.server_version,
            client_version=client,
            fingerprint=code.fingerprint_of(shown.migrations),
            migrations=shown.migrations,
            tables=[(schema, table, rows) for (schema, table), rows in shown.rows.items()],
            parts=parts,
        )
        self._session.value("SELECT true")  # The lock is still held.
        storing.store_manifest(self._run.folder, manifest.write())
        runs.succeed(self._run, name=row.name, bytes_stored=manifest.bytes_stored)

    def _store(self, name: str, chunks: Chunks) -> Part:
        return storing.store(self._run.folder, name, self._bounded(name, chunks))

    def _bounded(self, name: str, chunks: Chunks) -> Chunks:
        """The chunks, as long as there is time and room."""
        count, most = 0, settings.BACKUP_MAX_BYTES
        with closing(chunks):
            for chunk in chunks:
                count += len(chunk)
                if count > most:
                    raise BackupTooLarge(self._organization.name, name, most=most)
                is_late = monotonic() > self._until
                self._refuse_end(was_late=is_late, was_stopped=not self._goes_on())
                yield chunk

    def _dump(
        self, where: dict[str, Any], held: snapshot.Session, shown: snapshot.Snapshot, client: int
    ) -> Chunks:
        command = [*transfer.dump_command(), f"--snapshot={shown.id}"]
        command += ["--statistics"] if client >= _STATISTICS_SINCE else []
        with programs.Run(
            command,
            where,
            stdout=subprocess.PIPE,
            until=self._until,
            goes_on=self._goes_on,
        ) as run:
            while chunk := run.stdout.read(storing.CHUNK_BYTES):
                yield chunk
            if run.end() == 0:
                return
        self._refuse_end(was_late=run.was_late, was_stopped=run.was_stopped)
        facts = {"organization": self._organization.pk, "output": run.words}
        logger.error("pg_dump failed", extra=facts)
        if not held.is_alive():
            raise SessionEnded(self._organization.name)
        raise BackupFailed(self._organization.name, "pg_dump ended with an error. See the log.")

    def _refuse_end(self, *, was_late: bool, was_stopped: bool) -> None:
        if was_late:
            seconds = settings.BACKUP_DEADLINE_SECONDS
            raise BackupTookTooLong(self._organization.name, "backup", seconds=seconds)
        if was_stopped:
            raise BackupFailed(self._organization.name, "it was stopped.")


_STATISTICS_SINCE = 18


def _tar(folder: Path) -> Chunks:
    """An uncompressed archive of the folder's files, as chunks."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            # A file deleted meanwhile is not there; a link is none of ours.
            with suppress(FileNotFoundError, IsADirectoryError):
                yield from _tar_member(path, str(path.relative_to(folder)))
    yield tarfile.NUL * tarfile.BLOCKSIZE * 2


def _tar_member(path: Path, name: str) -> Chunks:
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        if path.is_symlink():
            return
        raise
    with open(number, "rb") as file:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode):
            return
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = facts.st_size, int(facts.st_mtime), 0o600
        yield member.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
        left = member.size
        # One that grows is written right now, and no row names it.
        while left and (chunk := file.read(min(left, storing.CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
        # One that shrank: its size was written already.
        yield tarfile.NUL * (left + -member.size % tarfile.BLOCKSIZE)
