"""Makes a database from a backup or a dump: restored, compared, migrated, without logins.

Everything runs as the role of that database, which owns nothing else: a dump holds its owner's
code, and so do the rows' triggers. Until the switch it is a throw-away database.
"""

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from django.db import Error as DatabaseError

from accounts.errors import NotNeutralised
from accounts.sessions import void_all
from organizations import tenancy
from organizations.backups import storing, verifying
from organizations.backups.encryption import Chunks
from organizations.errors import (
    BackupNotVerified,
    DatabaseGone,
    HistoryInconsistent,
    HistoryUnreadable,
    MigrationHalfDone,
    RestoreFailed,
    SessionsRemain,
)
from organizations.migrating.engine import Engine
from organizations.migrating.turn import explain
from organizations.models import BackupRun, Organization, Restore, SpareDatabase
from organizations.postgres import aside, identity, programs, regaining
from organizations.postgres.databases import past_pooler
from organizations.postgres.identity import Expected
from organizations.postgres.roles import set_password
from organizations.postgres.sessions import ServerSession
from organizations.postgres.watching import BackupWatch
from organizations.provisioning import media, versions
from organizations.provisioning.names import free_database_name
from organizations.provisioning.scratch import scratch, where
from organizations.secrets import seal
from organizations.tenancy import Place, Tenant, registry, untrusted

from . import files

logger = logging.getLogger(__name__)

# pg_dump's custom format begins so.
_MAGIC = b"PGDMP"


def silent(step: str) -> None:
    """Ignore the step."""


@dataclass(frozen=True, slots=True)
class Source:
    """A backup, or the file of a dump in pg_dump's custom format."""

    run: BackupRun | None = None
    file: Path | None = None


class Watch(BackupWatch):
    """Ends a restore at its deadline or on request. tell: called with each step."""

    def __init__(self, name: str, goes_on: Callable[[], bool], tell: Callable[[str], None]) -> None:
        super().__init__(name, "restore", goes_on, stopped=RestoreFailed(name, "it was stopped."))
        self.tell = tell


@dataclass(frozen=True, slots=True)
class New:
    """The new database. fingerprint: of its migrations, which are the code's. has_files: whether
    the folder of its key holds the files that go with it."""

    spare: SpareDatabase
    fingerprint: str
    has_files: bool


@contextmanager
def new_database(
    session: ServerSession,
    slug: str,
    source: Source,
    watch: Watch,
    *,
    to: Organization | None = None,
) -> Iterator[New]:
    """A database with the source's content, migrated to this code, as a throw-away one.

    slug: of the organization that may take it for good. to: that organization, if it has a row.
    Raises what verifying.check and verifying.restore raise, and RestoreFailed.
    """
    if source.run is not None:
        media.require()  # Before hours of work.
    name = free_database_name(session, slug, to=to)
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
            fingerprint = _migrate(_restored(spare), watch, even_ahead=False)
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
                why = "the file is not a dump by pg_dump --format=custom."
                raise RestoreFailed(name, why)
            while chunk:
                yield chunk
                chunk = file.read(storing.CHUNK_BYTES)
    except OSError as error:
        why = f"the file cannot be read ({error.strerror})."
        raise RestoreFailed(name, why) from error


def _restored(spare: SpareDatabase) -> Tenant:
    # Not as the organization: its alias leads to the database that serves.
    return Tenant(-spare.pk, "restored", spare.key, past_pooler(spare.place))


def _migrate(tenant: Tenant, watch: Watch, *, even_ahead: bool) -> str:
    """Migrate it to the code's migrations. Returns the fingerprint of those that it then has.

    even_ahead: it may have others that this code does not know.
    """
    engine = Engine()
    try:
        found = engine.migrate(tenant, owner=watch.name)
    except (HistoryUnreadable, HistoryInconsistent, MigrationHalfDone, DatabaseError) as error:
        raise RestoreFailed(watch.name, f"it was not migrated: {explain(error)}") from error
    finally:
        registry.forget(tenant.alias)
    if found.fingerprint != engine.fingerprint and not even_ahead:
        why = "it has migrations that this code does not know. Use the code that made the backup."
        raise RestoreFailed(watch.name, why)
    versions.remember(found.fingerprint, found.migrations)
    return found.fingerprint


# Ids are never reused, since the audit trail names them: the next one is above those of this
# database and of the serving one, which can get users meanwhile, and whose owner can lie about it.
_IDS = """
SELECT setval(sequence,
    greatest(own, least(coalesce(%(last)s::bigint, own + 1000000), own + 1000000000)))
FROM (SELECT sequence, greatest(coalesce(pg_sequence_last_value(sequence), 1),
        (SELECT coalesce(max(id), 1) FROM public.users)) AS own
    FROM pg_get_serial_sequence('public.users', 'id') AS name,
        CAST(name AS regclass) AS sequence) AS at
WHERE sequence IS NOT NULL
"""


def void_logins(spare: SpareDatabase, last_id: int | None, watch: Watch) -> None:
    """End every login of the backup, and invalidate every link mailed until now.

    last_id: the highest id that a user of the serving database had; None: unknown. Raises
    RestoreFailed.
    """
    _void_logins(_restored(spare), last_id, watch)


def _void_logins(tenant: Tenant, last_id: int | None, watch: Watch) -> None:
    try:
        with untrusted.inside(tenant, until=watch.until, seconds=watch.left()):
            void_all()
            last = None if last_id is None else min(last_id, 2**62) + 1000
            with tenancy.connection().cursor() as cursor:
                cursor.execute(_IDS, {"last": last})
    except NotNeutralised as error:
        why = "its logins do not end: code in its database keeps them."
        raise RestoreFailed(watch.name, why) from error
    except (DatabaseError, psycopg.Error) as error:
        watch()
        why = f"its logins could not be ended ({type(error).__name__})."
        raise RestoreFailed(watch.name, why) from error
    finally:
        registry.forget(tenant.alias)


# Spare databases have the negative numbers near 0.
_KEPT = -(2**62)


def renewed(
    session: ServerSession, row: Restore, kept: Expected, last_id: int | None, watch: Watch
) -> tuple[Place, str]:
    """Migrate the database that the row keeps, end its logins and invalidate its links.

    It is kept aside again afterwards, with a new password that nobody knows. If the process
    dies, reconcile_orgs does that. Returns its place and fingerprint. last_id: as for void_logins.
    Raises RestoreFailed, DatabaseGone and DatabaseKept.
    """
    found = identity.certain(session, kept)
    if found.role is None or found.database is None:
        raise DatabaseGone(watch.name)
    password = secrets.token_urlsafe(32)
    place = Place(row.database_name, row.role_name, seal(password))
    tenant = Tenant(_KEPT - row.pk, "kept", row.key, past_pooler(place))
    set_password(session, role=found.role, password=password)
    try:
        aside.bring_back(session, found, name=watch.name)
        fingerprint = _migrate(tenant, watch, even_ahead=True)
        _void_logins(tenant, last_id, watch)
    finally:
        if not session.connection.closed:
            aside.put_aside(session, identity.certain(session, kept), name=watch.name)
    # Its code can have set one.
    password = secrets.token_urlsafe(32)
    set_password(session, role=found.role, password=password)
    return Place(row.database_name, row.role_name, seal(password)), fingerprint


def regain(session: ServerSession, spare: SpareDatabase, *, name: str, is_open: bool) -> None:
    """Undo what code in the dump may have set for its role and database, and store the role's new
    password. Raises RestoreFailed if its sessions do not end, and as postgres/regaining.py does."""
    try:
        password = regaining.regain(
            session,
            database=spare.database_name,
            role=spare.role_name,
            key=spare.key,
            name=name,
            is_open=is_open,
        )
    except SessionsRemain as error:
        pids = ", ".join(map(str, error.pids))
        why = f"sessions with the new database do not end (process ids {pids})."
        raise RestoreFailed(name, why) from error
    spare.sealed_password = seal(password)
    SpareDatabase.objects.filter(pk=spare.pk).update(sealed_password=spare.sealed_password)
