"""Backs up one organization: a dump of its database by its own role, its files, and a manifest."""

import logging
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

from django.conf import settings

from organizations.errors import (
    BackupFailed,
    BackupTooLarge,
    OrganizationError,
    OrganizationNotFound,
    SessionEnded,
)
from organizations.models import BackupRun, Organization, OrganizationQuerySet
from organizations.postgres import identity, programs, transfer
from organizations.postgres.sessions import ServerSession
from organizations.postgres.watching import BackupWatch
from organizations.provisioning import code, media
from organizations.provisioning.undoing import expected
from organizations.secrets import unseal
from organizations.tenancy import storage

from . import runs, snapshot, storing
from .encryption import Chunks
from .files import Archive
from .manifest import Manifest, Part, read

logger = logging.getLogger(__name__)


def back_up(
    organization: Organization,
    *,
    even_closed: bool = False,
    goes_on: Callable[[], bool] = lambda: True,
) -> BackupRun:
    """Make a backup of an active or suspended organization.

    even_closed: also of one that is deleted or being archived, whose database the caller has opened
    under its lock.
    goes_on: false ends it. Takes no lock of the organization's: a deletion, a suspension and
    migrations go on, and the first two end it. Raises OrganizationNotFound, WrongState for one that
    was restored beside another, BackupRunning, BackupObstructed, BackupLocked, BackupTookTooLong,
    BackupTooLarge, BackupStorageFailed, BackupFailed, FilesUnknown, SessionEnded,
    OrganizationCrowded, DatabaseKept, CredentialUnreadable, HistoryUnreadable, ProgramMissing,
    ProgramTooOld, ProgramTooNew, ProvisioningInTransaction, InstallationUnclaimed,
    ServerUnavailable and ServerRefused. Then the run is recorded as failed, and nothing of it is
    left.
    """
    with runs.locked(organization.key, name=organization.name) as session:
        runs.require_storage()
        runs.end_interrupted(session, organization.key)
        rows = Organization.objects.reachable()
        if even_closed:
            rows |= Organization.objects.closed().exclude(sealed_password="")
        reachable = rows.filter(pk=organization.pk).first()
        if reachable is None:
            raise OrganizationNotFound(organization.name)
        reachable.require_writable()
        run = runs.begin(reachable)
        try:
            _Making(session, reachable, run, rows, goes_on).make()
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
        rows: OrganizationQuerySet,
        goes_on: Callable[[], bool],
    ) -> None:
        self._session = session
        self._organization = organization
        self._run = run
        self._rows = rows
        stopped = BackupFailed(organization.name, "it was stopped.")
        self._watch = BackupWatch(organization.name, "backup", goes_on, stopped=stopped)

    def make(self) -> None:
        row = self._organization
        media.require(even_of_none=False)
        # What the server has under the row's names must be the row's.
        if identity.certain(self._session, expected(row)).database is None:
            raise BackupFailed(row.name, "its database is missing. See manage.py check_orgs.")
        password = unseal(row.sealed_password, owner=row.name)
        where = transfer.parameters(row.database_name, row.role_name, password)
        server = self._session.connection.info.server_version // 10_000
        client = programs.major_version("pg_dump", server=server)
        with storing.incoming(self._run.folder, storing.DUMP) as dump:
            with snapshot.open_snapshot(row, where, until=self._watch.until) as (held, shown):
                dump.take(self._bounded(storing.DUMP, self._dump(where, held, shown, client)))
            parts = [dump.finish(self._watch)]
        # Files after the database: no row names a missing one, unless it was deleted since.
        files = self._store_files(parts)
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
            files=files,
        )
        self._session.value("SELECT true")  # The lock is still held.
        storing.store_manifest(self._run.folder, manifest.write())
        storing.require_ours()  # Not below the mount point of a disk unmounted meanwhile.
        runs.succeed(self._run, name=row.name, stored=manifest)

    def _store_files(self, parts: list[Part]) -> int:
        """Store the organization's files, if it has a folder. Returns their number."""
        row, count = self._organization, 0
        folder = storage.folder_of(row.key)
        if is_there := folder.is_dir():
            archive = Archive(folder, name=row.name)
            with storing.incoming(self._run.folder, storing.FILES) as file:
                file.take(self._bounded(storing.FILES, archive.chunks()))
                parts.append(file.finish(self._watch))
            count = archive.count
        has_files = is_there or self._had_files()
        media.require(even_of_none=has_files)
        # Its deletion removes them; and files of an unmounted disk were skipped as if deleted.
        if not self._rows.filter(pk=row.pk).exists():
            raise OrganizationNotFound(row.name)
        if has_files and not folder.is_dir():
            raise BackupFailed(
                row.name,
                "MEDIA_ROOT has no folder for it, and an earlier backup holds files. Mount the "
                f"disk; or, if they are lost, create the folder {folder.name} in MEDIA_ROOT.",
            )
        return count

    def _had_files(self) -> bool:
        """Whether its newest readable backup holds files."""
        good = BackupRun.objects.filter(
            state=BackupRun.State.GOOD, organization_key=self._organization.key
        )
        for run in good:
            with suppress(OrganizationError):
                content = storing.read_manifest(run.folder)
                return read(content, run, installation=self._session.installation).files > 0
        return False

    def _bounded(self, name: str, chunks: Chunks) -> Chunks:
        """The chunks, up to the deadline and the maximum size."""
        count, most = 0, settings.BACKUP_MAX_BYTES
        with closing(chunks):
            for chunk in chunks:
                count += len(chunk)
                if count > most:
                    raise BackupTooLarge(self._organization.name, name, most=most)
                self._watch()
                yield chunk

    def _dump(
        self, where: dict[str, Any], held: snapshot.Session, shown: snapshot.Snapshot, client: int
    ) -> Chunks:
        command = [*transfer.dump_command(), f"--snapshot={shown.id}"]
        # An older server lacks the functions that would restore them.
        if min(client, shown.server_version // 10_000) >= _STATISTICS_SINCE:
            command.append("--statistics")
        with programs.Run(
            command,
            where,
            stdout=subprocess.PIPE,
            until=self._watch.until,
            goes_on=self._watch.goes_on,
        ) as run:
            while chunk := run.stdout.read(storing.CHUNK_BYTES):
                yield chunk
            if run.end() == 0:
                return
        self._watch()
        facts = {"organization": self._organization.pk, "output": run.words}
        logger.error("pg_dump failed", extra=facts)
        if not held.is_alive():
            raise SessionEnded(self._organization.name)
        snapshot.refuse_crowd(self._organization)
        raise BackupFailed(self._organization.name, "pg_dump ended with an error. See the log.")


_STATISTICS_SINCE = 18
