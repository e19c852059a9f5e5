"""Makes a database from a backup or a dump: restored, compared, migrated, without log-ins.

Everything runs as the role of that database, which owns nothing else: a dump holds its owner's
code, and so do the rows' triggers. Until the switch it is a throw-away database.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError

from organizations.backups import storing, verifying
from organizations.backups.encryption import Chunks
from organizations.errors import (
    BackupNotVerified,
    BackupTookTooLong,
    HistoryInconsistent,
    HistoryUnreadable,
    MigrationHalfDone,
    RestoreFailed,
)
from organizations.migrating.engine import Engine
from organizations.migrating.turn import explain
from organizations.models import BackupRun, Organization, SpareDatabase
from organizations.postgres import programs, regaining
from organizations.postgres.databases import past_pooler
from organizations.postgres.sessions import ServerSession
from organizations.provisioning import versions
from organizations.provisioning.names import free_database_name
from organizations.provisioning.scratch import scratch, where
from organizations.secrets import seal
from organizations.tenancy import Tenant, guard, registry

from . import files
from .comparing import Changes

logger = logging.getLogger(__name__)

# pg_dump's custom format begins so.
_MAGIC = b"PGDMP"


@dataclass(frozen=True, slots=True)
class Source:
    """A backup, or the file of a dump in pg_dump's custom format."""

    run: BackupRun | None = None
    file: Path | None = None


class Watch:
    """Ends a restore at its deadline, or when asked. tell: hears of each step."""

    def __init__(self, name: str, goes_on: Callable[[], bool], tell: Callable[[str], None]) -> None:
        self.name = name
        self.goes_on = goes_on
        self.tell = tell
        self.until = monotonic() + settings.BACKUP_DEADLINE_SECONDS

    def __call__(self) -> None:
        if monotonic() >= self.until:
            seconds = settings.BACKUP_DEADLINE_SECONDS
            raise BackupTookTooLong(self.name, "restore", seconds=seconds)
        if not self.goes_on():
            raise RestoreFailed(self.name, "it was stopped.")


@dataclass(frozen=True, slots=True)
class New:
    """The new database. fingerprint: of its migrations, which are the code's. has_files: whether
    the folder of its key holds the files that go with it."""

    spare: SpareDatabase
    fingerprint: str
    has_files: bool


@contextmanager
def new_database(
    session: ServerSession, organization: Organization, source: Source, watch: Watch
) -> Iterator[New]:
    """A database with the source's content, migrated to this code, as a throw-away one.

    Raises what verifying.check and verifying.restore raise, and RestoreFailed.
    """
    name = free_database_name(session, organization.slug)
    watch.tell("checking the backup")
    read = None if source.run is None else verifying.check(session, source.run, watch=watch)
    with scratch(session, database=name) as spare:
        try:
            watch.tell("restoring beside")
            _load(session, source, read, spare, watch)
            regain(session, spare, name=watch.name, is_open=True)
            if source.run is not None and read is not None:
                verifying.compare(source.run, read, where(spare), until=watch.until)
            watch.tell("migrating")
            fingerprint = _migrate(spare, watch)
            if source.run is not None and read is not None:
                watch.tell("unpacking the files")
                files.unpack(source.run, read, spare.key, name=watch.name, watch=watch)
        except psycopg.Error as error:
            session.value("SELECT true")  # Else the server is unavailable.
            watch()
            why = f"the restored database could not be read ({type(error).__name__})."
            raise RestoreFailed(watch.name, why) from error
        watch()
        yield New(spare, fingerprint, has_files=read is not None)


def _load(
    session: ServerSession, source: Source, read: Any, spare: SpareDatabase, watch: Watch
) -> None:
    server = verifying.server_version(session)
    try:
        if source.run is not None:
            verifying.restore(
                source.run,
                read,
                where(spare),
                server=server,
                name=watch.name,
                until=watch.until,
                goes_on=watch.goes_on,
                act="restore",
            )
        elif source.file is not None:
            verifying.load(
                _of_file(source.file, watch.name),
                where(spare),
                client=programs.major_version("pg_restore", server=server),
                name=watch.name,
                until=watch.until,
                goes_on=watch.goes_on,
                act="restore",
                facts={"file": str(source.file)},
            )
    except BackupNotVerified as error:
        session.value("SELECT true")
        watch()
        raise RestoreFailed(
            watch.name, "pg_restore ended with an error; the log has its output."
        ) from error


def _of_file(path: Path, name: str) -> Chunks:
    try:
        with open(path, "rb") as file:
            chunk = file.read(storing.CHUNK_BYTES)
            if not chunk.startswith(_MAGIC):
                why = "the file is no dump of pg_dump --format=custom."
                raise RestoreFailed(name, why)
            while chunk:
                yield chunk
                chunk = file.read(storing.CHUNK_BYTES)
    except OSError as error:
        why = f"the file cannot be read ({error.strerror})."
        raise RestoreFailed(name, why) from error


def _migrate(spare: SpareDatabase, watch: Watch) -> str:
    """Migrate it to the code's migrations. Returns their fingerprint."""
    # Not as the organization: its alias leads to the database that serves.
    tenant = Tenant(-spare.pk, "restored", spare.key, past_pooler(spare.place))
    engine = Engine()
    try:
        found = engine.migrate(tenant, owner=watch.name)
    except (HistoryUnreadable, HistoryInconsistent, MigrationHalfDone, DatabaseError) as error:
        raise RestoreFailed(watch.name, f"it was not migrated: {explain(error)}") from error
    finally:
        registry.forget(tenant.alias)
    if found.fingerprint != engine.fingerprint:
        why = "it has migrations that this code does not know. Use the code that made the backup."
        raise RestoreFailed(watch.name, why)
    versions.remember(found.fingerprint, found.migrations)
    return found.fingerprint


# More than anybody's number was raised since the backup. A reset link or a token names the number
# that it was made with.
_AHEAD = 1_000_000
_VOID = """
UPDATE public.users SET token_version = token_version % 1000000000 + {0},
    email_version = email_version % 1000000000 + {0}
"""
_SHUT_OUT = "SELECT NOT EXISTS (SELECT FROM public.login_sessions)"
# No id means two people: the audit trail names them, and so do links.
_IDS = """
SELECT setval(sequence, greatest(next, least(%s, next + {0})))
FROM (SELECT pg_get_serial_sequence('public.users', 'id')::regclass AS sequence,
    (SELECT coalesce(max(id), 1) FROM public.users) AS next) AS at
WHERE sequence IS NOT NULL
"""


def void_logins(spare: SpareDatabase, changes: Changes, watch: Watch) -> None:
    """End every log-in of the backup, and make each link that was mailed until now worthless.

    Raises RestoreFailed.
    """
    try:
        with guard.Connection.connect(
            **where(spare), autocommit=True, prepare_threshold=None
        ) as connection:
            connection.lend(max(0.001, watch.until - monotonic()))
            with guard.time_limit(None), connection.transaction():
                connection.execute(b"DELETE FROM public.login_sessions")
                connection.execute(_VOID.format(_AHEAD).encode())
                connection.execute(_IDS.format(_AHEAD).encode(), (changes.last_id,))
                gone = connection.execute(_SHUT_OUT.encode()).fetchone()
    except psycopg.Error as error:
        watch()
        why = f"its log-ins could not be ended ({type(error).__name__})."
        raise RestoreFailed(watch.name, why) from error
    if gone != (True,):
        raise RestoreFailed(watch.name, "its log-ins do not end: code in its database keeps them.")


def regain(session: ServerSession, spare: SpareDatabase, *, name: str, is_open: bool) -> None:
    """Undo what code in the dump may have set for its role and database, and store the role's new
    password. Raises as postgres/regaining.py does."""
    password = regaining.regain(
        session,
        database=spare.database_name,
        role=spare.role_name,
        key=spare.key,
        name=name,
        is_open=is_open,
    )
    spare.sealed_password = seal(password)
    SpareDatabase.objects.filter(pk=spare.pk).update(sealed_password=spare.sealed_password)
