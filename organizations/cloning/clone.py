"""Clones an organization: a new one, with the data and files that another one has at one moment.

It is made as a sign-up is: until all is done its row says `provisioning`, so that nobody uses it
and none of its jobs runs, and whatever fails or dies is undone like an unfinished sign-up. The
other organization is only read, by its own role; what its owner left in the database runs with the
rights of the clone's role alone.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NoReturn

from accounts import neutralise, sessions
from accounts.validators import check_fields
from organizations.audit import record_failure, recorded
from organizations.backups import runs, snapshot
from organizations.errors import (
    CloneFailed,
    CopyFailed,
    OrganizationNotFound,
    SessionEnded,
)
from organizations.models import Organization, random_key
from organizations.naming import display_name
from organizations.naming import name_key as key_of
from organizations.postgres import identity, programs, transfer
from organizations.postgres.databases import ensure_database, past_pooler
from organizations.postgres.regaining import regain
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import ServerSession, open_session, refuse_in_transaction
from organizations.postgres.watching import BackupWatch
from organizations.provisioning import ceiling, code, making, media, versions
from organizations.provisioning.failures import explained
from organizations.provisioning.report import Record
from organizations.provisioning.undoing import change_status, compensate, expected
from organizations.secrets import seal, unseal
from organizations.tenancy import guard, registry, storage, trail, untrusted
from organizations.validators import SignUp, validate_name

from . import files, hooks

logger = logging.getLogger(__name__)

Status = Organization.Status
Step = Organization.Step
# For another process that works on the new name: an earlier try of the same job, for example.
_WAIT_SECONDS = 5.0
# It was done, whatever was done with it since.
_DONE = (*Status.usable(), Status.TRASHED, Status.DELETING, Status.DELETED)


@dataclass(frozen=True, slots=True)
class Cloned:
    """The clone. rows, files: copied; 0 if an earlier try made it. neutralised, left_as_they_are:
    the tenant apps whose hook ran, and those that have none."""

    organization: Organization
    rows: int = 0
    files: int = 0
    neutralised: tuple[str, ...] = ()
    left_as_they_are: tuple[str, ...] = ()


def check_clone(organization: Organization, *, name: str) -> str:
    """The new name as it will be shown. Raises what clone_organization raises before it begins."""
    refuse_in_transaction()
    check_fields(name=lambda: validate_name(name))
    name = display_name(name)
    hooks.found(name=organization.name)
    _reachable(organization)
    ceiling.refuse_name(name)
    return name


def _reachable(organization: Organization) -> Organization:
    """Its row as it is now."""
    row: Organization | None = Organization.objects.reachable().filter(pk=organization.pk).first()
    if row is None:
        if organization.status in Status.archival():
            organization.require_usable()
        raise OrganizationNotFound(organization.name)
    return row


def clone_organization(
    organization: Organization,
    *,
    name: str,
    exact: bool = False,
    key: str = "",
    goes_on: Callable[[], bool] = lambda: True,
    tell: Callable[[str], None] = lambda step: None,
) -> Cloned:
    """Make a new organization of this name, with the data and files of an active or suspended one.

    Nobody is logged in to it, and it sends no mail. Unless it is exact, the tenant apps' hooks have
    replaced addresses and passwords before it can be used. key: the new one's; a call with the key
    of one that was done returns that, even if it was deleted since. goes_on: false ends it. tell:
    called with each step. No backup or restore of the other one begins meanwhile.
    Raises ValidationError by field (name), OrganizationExists, OrganizationBusy, BackupRunning,
    OrganizationNotFound, TooManyOrganizations, MigrationsIncoherent, CloneFailed, CopyFailed,
    FilesUnknown, ProvisioningFailed, what a backup of it raises (backups/making.py), and as
    open_session does. Then everything was undone; if that was impossible, the row says so.
    """
    refuse_in_transaction()
    check_fields(name=lambda: validate_name(name))
    key = key or random_key()
    with open_session() as session:
        session.lock(key_of(name), name=name, timeout_seconds=_WAIT_SECONDS)
        done = Organization.objects.filter(key=key, status__in=_DONE).first()
        if done is not None:
            return Cloned(done)
        name = check_clone(organization, name=name)
        # Else a restore could switch the database and the files between the copies of the two.
        runs.hold(session, organization.key, name=organization.name)
        media.require()
        source = _reachable(organization)
        stopped = CloneFailed(source.name, "it was stopped.")
        watch = BackupWatch(source.name, "clone", goes_on, stopped=stopped)
        cloning = _Cloning(session, source, exact=exact, watch=watch, tell=tell)
        cloned = cloning.make(name, key)
    facts = {"organization": source.pk, "clone": cloned.organization.pk}
    logger.info("organization cloned", extra=facts)
    return cloned


@dataclass
class _Cloning:
    """One clone of `source`, under the new name's lock, which the session holds."""

    session: ServerSession
    source: Organization
    exact: bool
    watch: BackupWatch
    tell: Callable[[str], None]

    def make(self, name: str, key: str) -> Cloned:
        commands = self._commands()
        found = {} if self.exact else hooks.found(name=self.source.name)
        email = self.source.admin_email if self.exact else f"nobody@{neutralise.DOMAIN}"

        def save(row: Organization) -> Organization:
            row.key, row.cloned_from = key, self.source.pk
            return making.insert_alone(row)

        row = making.insert(self.session, SignUp(name, email, password=""), save)
        try:
            rows = self._copy_database(row, commands)
            count = self._copy_files(row)
            self._neutralise(row, found)
            self._open(row)
        except BaseException as error:
            record_failure(row, error)
            compensate(self.session, row)
            reason = explained(row, error)
            if reason is error:
                raise
            raise reason from error
        done = tuple(label for label, hook in found.items() if hook is not None)
        rest = tuple(label for label, hook in found.items() if hook is None)
        return Cloned(row, rows, count, done, rest)

    def _commands(self) -> tuple[list[str], list[str]]:
        """pg_dump's and pg_restore's."""
        server = self.session.connection.info.server_version // 10_000
        client = programs.major_version("pg_dump", server=server)
        restoring = programs.major_version("pg_restore", server=server, at_least=client)
        in_parts = restoring >= transfer.PARTS_SINCE
        return transfer.dump_command(), transfer.restore_command(in_parts=in_parts)

    # --- The copy -----------------------------------------------------------------------------
    def _copy_database(self, row: Organization, commands: tuple[list[str], list[str]]) -> int:
        """Role, database and its content. Returns the number of rows."""
        source, record = self.source, Record(self.session, row)
        self.tell("creating role and database")
        password = unseal(row.sealed_password, owner=row.name)
        ensure_role(self.session, role=row.role_name, password=password, key=row.key)
        record.reached(Step.ROLE)
        ensure_database(self.session, database=row.database_name, role=row.role_name, key=row.key)
        record.reached(Step.DATABASE)
        # What the server has under the source's names must be the source's.
        if identity.certain(self.session, expected(source)).database is None:
            raise CloneFailed(source.name, "its database is missing. See manage.py check_orgs.")
        theirs = unseal(source.sealed_password, owner=source.name)
        where = transfer.parameters(source.database_name, source.role_name, theirs)
        target = transfer.parameters(row.database_name, row.role_name, password)
        with snapshot.open_snapshot(source, where, until=self.watch.until) as (held, shown):
            if code.fingerprint_of(shown.migrations) != code.current().fingerprint:
                why = "its migrations are not this code's. Run manage.py migrate_orgs for it first."
                raise CloneFailed(source.name, why)
            number = sum(shown.rows.values())
            self.tell(f"copying {number} rows")
            dump, restore = commands
            failed = transfer.pipe(
                [*dump, f"--snapshot={shown.id}"],
                where,
                restore,
                target,
                until=self.watch.until,
                goes_on=self.watch.goes_on,
            )
            if failed:
                self._explain(row, failed, was_ended=not held.is_alive())
        target |= {"password": self._regain(row)}
        ours = guard.Connection.connect(**target, autocommit=True, prepare_threshold=None)
        with ours, guard.time_limit(None):
            ours.lend(self.watch.left())
            transfer.compare(source.name, shown.rows, transfer.rows_of(ours))
        record.reached(Step.SCHEMA)
        return number

    def _explain(self, row: Organization, failed: list[str], *, was_ended: bool) -> NoReturn:
        """Raise the reason why pg_dump or pg_restore failed."""
        self.watch()
        # It can contain the organization's data.
        facts = {"organization": row.pk, "output": "\n".join(failed)}
        logger.error("pg_dump or pg_restore failed", extra=facts)
        if was_ended:
            raise SessionEnded(self.source.name)
        snapshot.refuse_crowd(self.source)
        raise CopyFailed(
            self.source.name, "pg_dump or pg_restore ended with an error. See the log."
        )

    def _copy_files(self, row: Organization) -> int:
        # After the database: no row names a missing one, unless it was deleted since.
        self.tell("copying files")
        folders = storage.folder_of(self.source.key), storage.folder_of(row.key)
        count = files.copy(*folders, name=self.source.name, watch=self.watch)
        media.require()  # What an unmounted disk took was left out as if deleted.
        return count

    # --- Whose it is --------------------------------------------------------------------------
    def _neutralise(self, row: Organization, found: dict[str, hooks.Hook | None]) -> None:
        # In an exact one too: nobody who is logged in to the source is in the clone.
        steps = {"logins": sessions.void_all, **found}
        with self._inside(row):
            for what, hook in steps.items():
                if hook is not None:
                    self.tell(f"neutralising {what}")
                    hooks.run(what, hook, name=self.source.name, watch=self.watch)
        self._regain(row)  # Triggers ran. From here on no code does, until somebody uses it.
        Record(self.session, row).reached(Step.ADMIN)

    def _regain(self, row: Organization) -> str:
        """Undo what the source's code may have set for the clone. Returns its role's password."""
        password = regain(
            self.session,
            database=row.database_name,
            role=row.role_name,
            key=row.key,
            name=row.name,
            is_open=True,
        )
        row.sealed_password = seal(password)
        row.save(update_fields=["sealed_password"])
        registry.forget(row.tenant.alias)
        return password

    @contextmanager
    def _inside(self, row: Organization) -> Iterator[None]:
        """The clone, active, without the time limit of a request's statement."""
        tenant = replace(row.tenant, place=past_pooler(row.place))
        with untrusted.inside(tenant, until=self.watch.until, seconds=self.watch.left()):
            yield

    def _open(self, row: Organization) -> None:
        """Activate it. Fails if reconcile_orgs took the row over meanwhile."""
        self.watch()
        _reachable(self.source)  # Its deletion removes its files, maybe while they were copied.
        fingerprint = versions.remember_code()
        made = expected(row)
        facts = {"source": self.source.pk, "clone": row.pk, "exact": self.exact}
        with recorded("organization.cloned", row, facts):
            if not change_status(
                row, Status.ACTIVE, only_from=(Status.PROVISIONING,), fingerprint=fingerprint
            ):
                raise CloneFailed(self.source.name, "it was cleaned up while it was being made.")
            identity.change(
                self.session,
                made,
                state=identity.State.LET_IN,
                organization=row.pk,
                cloned_from=self.source.pk,
            )
            trail.record("organization.cloned", organization_id=self.source.pk, facts=facts)
