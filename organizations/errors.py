"""Errors about organizations: one class per cause. Those about accounts are in accounts/errors.py.

Each message says which organization and what to do. `code` is what the API and `--json` show. Only
orgmgmt/edge/exceptions.py maps them to HTTP status codes.
"""

from collections.abc import Sequence
from datetime import datetime


class OrganizationError(Exception):
    """Base class of the errors about organizations."""

    code = "organization_error"


class OrganizationNotFound(OrganizationError):
    """No usable organization has this name, slug or id."""

    code = "organization_not_found"

    def __init__(self, what: str = "") -> None:
        named = f" called {what!r}" if what else ""
        super().__init__(f"There is no organization{named}. Check the spelling, or sign up.")


class OrganizationExists(OrganizationError):
    """The name, or one that people would confuse with it, is taken."""

    code = "organization_exists"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The name {name!r} is taken (case is ignored, and a hyphen counts as a space). "
            "Choose another name."
        )


class OrganizationBusy(OrganizationError):
    """Another process is creating, renaming, migrating or deleting this organization."""

    code = "organization_busy"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The organization {name!r} is being changed right now. Try again shortly."
        )


class OrganizationSuspended(OrganizationError):
    """The organization is suspended: its users have no access."""

    code = "organization_suspended"

    def __init__(self, name: str, *, organization_id: int | None = None, message: str = "") -> None:
        self.organization_id = organization_id
        said = message or "Contact support."
        super().__init__(f"The organization {name!r} is suspended. {said}")


class OrganizationArchived(OrganizationSuspended):
    """The organization is archived: nobody has access until it is thawed."""

    code = "organization_archived"

    def __init__(self, name: str, *, organization_id: int | None = None) -> None:
        self.organization_id = organization_id
        OrganizationError.__init__(
            self,
            f"The organization {name!r} is archived. Its admin can bring it back: POST "
            "/api/v1/org/thaw-link/ mails a link.",
        )


class OrganizationReadOnly(OrganizationError):
    """A write in a read-only organization, which a restore made from a backup."""

    code = "organization_read_only"

    def __init__(self, name: str, until: datetime) -> None:
        super().__init__(
            f"The organization {name!r} is a restored backup, kept until {until:%Y-%m-%d %H:%M} "
            "UTC. It is read-only."
        )


class SessionsRemain(OrganizationError):
    """Terminated sessions with an organization's database have not ended yet."""

    code = "sessions_remain"

    def __init__(self, name: str, pids: Sequence[int]) -> None:
        self.pids = pids
        super().__init__(
            f"The change to {name!r} is saved, but {len(pids)} open sessions with its database "
            f"have not ended (process ids {', '.join(map(str, pids))}). Run `manage.py "
            "reconcile_orgs` to end them."
        )


class OrganizationMigrating(OrganizationError):
    """Its database lacks a migration that this code needs, and ORG_VERSION_SKEW is `strict`."""

    code = "organization_migrating"

    def __init__(self, name: str, *, organization_id: int | None = None) -> None:
        self.organization_id = organization_id
        super().__init__(
            f"The organization {name!r} is being upgraded right now. Try again shortly."
        )


class MigrationUnknown(OrganizationError):
    """The migration target is not a tenant app, or matches none or several of its migrations."""

    code = "migration_unknown"

    def __init__(self, label: str, name: str | None, *, known: list[str]) -> None:
        what = f"tenant app {label!r}" if name is None else f"one migration {name!r} of {label!r}"
        super().__init__(f"There is no {what}. Known: {', '.join(known)}.")


class OrganizationMismatch(OrganizationError):
    """A header or the host names a different organization than the credential."""

    code = "organization_mismatch"

    def __init__(self, source: str) -> None:
        super().__init__(
            f"{source} names another organization than your credential is for. "
            "Remove it, or log in to that organization."
        )


class WrongState(OrganizationError):
    """The organization's status does not allow this step."""

    code = "organization_wrong_state"

    def __init__(self, name: str, *, status: str, wanted: str) -> None:
        super().__init__(f"The organization {name!r} is {status}; it must be {wanted}.")


class IdempotencyKeyInvalid(OrganizationError):
    """The Idempotency-Key is empty, too long, or not plain text."""

    code = "idempotency_key_invalid"

    def __init__(self) -> None:
        super().__init__(
            "The Idempotency-Key must have 1 to 255 printable ASCII characters, such as a UUID."
        )


class IdempotencyKeyReused(OrganizationError):
    """The Idempotency-Key was sent before, with another path or body."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used for another request. Use a new key for a new request."
        )


class IdempotencyKeyInUse(OrganizationError):
    """The first request with this Idempotency-Key has not been answered yet."""

    code = "idempotency_key_in_use"

    def __init__(self) -> None:
        super().__init__(
            "The first request with this Idempotency-Key is still running. Try again shortly."
        )


class ProvisioningInTransaction(OrganizationError):
    """Provisioning was called inside a transaction, where CREATE DATABASE cannot run."""

    code = "provisioning_in_transaction"

    def __init__(self) -> None:
        super().__init__(
            "An organization cannot be created, suspended, renamed or deleted inside "
            "transaction.atomic(): CREATE DATABASE is refused there, and nobody else sees what is "
            "not committed. Call it outside."
        )


class ProvisioningFailed(OrganizationError):
    """A step of provisioning failed; everything it made was removed."""

    code = "provisioning_failed"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The organization {name!r} could not be created: {reason}")


class ServerUnavailable(OrganizationError):
    """The PostgreSQL server cannot be reached, or has no free connection."""

    code = "database_unavailable"

    def __init__(self, reason: str = "") -> None:
        super().__init__(
            "The database is unavailable right now. Try again shortly."
            + (f" ({reason})" if reason else "")
        )


class TookTooLong(OrganizationError):
    """A statement hit its time limit, or waited too long for a lock."""

    code = "took_too_long"

    def __init__(self) -> None:
        super().__init__("The database took too long, so the request was cancelled. Try again.")


class ServerRefused(OrganizationError):
    """The PostgreSQL server rejected a statement of ours; it is not an outage."""

    code = "database_refused"

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"The database server rejected a step ({kind}). No data is lost: see the log, run "
            "`manage.py check --database default`, then `manage.py reconcile_orgs`."
        )


class DatabaseInUse(ServerRefused):
    """Something else is connected to the database, such as psql or a backup."""

    code = "database_in_use"

    def __init__(self, kind: str) -> None:
        Exception.__init__(
            self,
            f"Something is connected to the database ({kind}). No data is lost: end that session "
            "(pg_stat_activity shows it), then run `manage.py reconcile_orgs`.",
        )


class DatabaseKept(OrganizationError):
    """Row, identity, OID and owner do not agree, so nothing is dropped."""

    code = "database_kept"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name!r} was not changed: {why}. `manage.py check_orgs` says what to do."
        )


class DatabaseGone(OrganizationError):
    """There is no intact database to bring back."""

    code = "database_gone"

    def __init__(self, name: str) -> None:
        super().__init__(f"The database of {name!r} is gone. A backup of it can be restored.")


class DatabaseThere(OrganizationError):
    """Only a lost organization was to be restored, and its database or role exists."""

    code = "database_there"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is not lost: the server has its database, its role, or another role with "
            "its key. See manage.py check_orgs. To restore it anyway, use restore_org."
        )


class UndeletionFailed(OrganizationError):
    """The organization's logins could not be ended, or its database not migrated."""

    code = "undeletion_failed"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} was not brought back and is still kept: its logins could not be ended, or "
            "its database not migrated. The log has the reason."
        )


class SeveralDeleted(OrganizationError):
    """Several kept deleted organizations had this name."""

    code = "several_deleted"

    def __init__(self, name: str, ids: Sequence[int]) -> None:
        super().__init__(
            f"Several deleted organizations were called {name!r}. Choose one with --id: "
            f"{', '.join(map(str, ids))}."
        )


class InstallationUnclaimed(OrganizationError):
    """This master database is a copy: its server or database is not the recorded one."""

    code = "installation_unclaimed"

    def __init__(self) -> None:
        super().__init__(
            "This master database is a copy, so the databases it names may belong to another "
            "installation. Nothing was changed. An operator must decide: see `manage.py "
            "claim_installation --help`."
        )


class MasterStillThere(OrganizationError):
    """A copy was claimed as the only master while the original is still on the server."""

    code = "master_still_there"

    def __init__(self) -> None:
        super().__init__(
            "The original of this master database is still on this server. Use --new to make this "
            "a separate installation, or drop the original first."
        )


class NothingToClaim(OrganizationError):
    """The master is not a copy; a claim would only suspend its own organizations."""

    code = "nothing_to_claim"

    def __init__(self) -> None:
        super().__init__("This master database is not a copy. There is nothing to claim.")


class ProgramMissing(OrganizationError):
    """pg_dump or pg_restore is not installed."""

    code = "program_missing"

    def __init__(self, program: str) -> None:
        super().__init__(
            f"{program} was not found, or does not run. Install PostgreSQL's client programs, at "
            "least as new as the server, and set POSTGRES_BIN to their folder unless it is in PATH."
        )


class ProgramTooOld(OrganizationError):
    """pg_dump or pg_restore is older than the server, or than a backup's pg_dump."""

    code = "program_too_old"

    def __init__(self, program: str, *, found: int, needed: int) -> None:
        super().__init__(
            f"{program} is version {found}, and at least {needed} is needed. Install newer "
            "PostgreSQL client programs, and set POSTGRES_BIN to their folder."
        )


class ProgramTooNew(OrganizationError):
    """pg_dump or pg_restore is too new for the server."""

    code = "program_too_new"

    def __init__(self, program: str, *, found: int, server: int) -> None:
        super().__init__(
            f"{program} is version {found}, too new for the server's {server}. Set POSTGRES_BIN to "
            f"the folder of version {server}'s client programs."
        )


class CopyFailed(OrganizationError):
    """A database's content could not be copied into another."""

    code = "copy_failed"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The content of {name!r} was not copied. The original is intact: {why}")


class CloneFailed(OrganizationError):
    """A clone failed, for a reason that has no class of its own."""

    code = "clone_failed"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name!r} was not cloned, and nothing is left over: {why}")


class ArchiveFailed(OrganizationError):
    """An organization was not archived. It is unchanged."""

    code = "archive_failed"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The organization {name!r} was not archived: {why}")


class FilesKept(OrganizationError):
    """The files of what is being dropped cannot be removed."""

    code = "files_kept"

    def __init__(self, row: object) -> None:
        super().__init__(
            f"Files of {str(row)!r} cannot be removed: MEDIA_ROOT on this host does not hold them "
            "(see docs/operations.md, The files' mark), or the log says why. Mount the disk, or "
            "make them writable, and run `manage.py reconcile_orgs`."
        )


class FilesUnknown(OrganizationError):
    """MEDIA_ROOT on this host lacks this installation's mark: perhaps its disk is not mounted.

    So files missing there do not count as lost.
    """

    code = "files_unknown"

    def __init__(self, mark: str) -> None:
        super().__init__(
            "MEDIA_ROOT on this host does not hold the organizations' files: it has no file "
            f"{mark}. Mount the disk, or set MEDIA_ROOT. If it is the right folder, run "
            "`manage.py mark_media` once."
        )


class BackupRunning(OrganizationError):
    """A backup of this organization is being made, verified or removed right now."""

    code = "backup_running"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Another process is working on the backups of {name!r}. Try again shortly."
        )


class BackupObstructed(OrganizationError):
    """Something in the organization's database makes a complete dump impossible.

    finding: the kind of obstacle, in one word or two.
    """

    code = "backup_obstructed"

    def __init__(self, name: str, finding: str, what: str) -> None:
        self.finding = finding
        super().__init__(f"{name!r} cannot be backed up ({finding}): {what}")


class BackupFailed(OrganizationError):
    """A backup failed, for a reason that has no class of its own."""

    code = "backup_failed"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The backup of {name!r} failed: {why}")


class BackupLocked(OrganizationError):
    """A session holds a lock on one of the organization's tables."""

    code = "backup_locked"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} was not backed up: a session holds a lock on one of its tables, a migration "
            "for example. Try again later."
        )


class BackupTookTooLong(OrganizationError):
    """A backup or a verification reached its deadline."""

    code = "backup_took_too_long"

    def __init__(self, name: str, what: str, *, seconds: int) -> None:
        super().__init__(
            f"The {what} of {name!r} was stopped after BACKUP_DEADLINE_SECONDS = {seconds}."
        )


class BackupTooLarge(OrganizationError):
    """A part of a backup is larger than the limit."""

    code = "backup_too_large"

    def __init__(self, name: str, part: str, *, most: int) -> None:
        super().__init__(
            f"The backup of {name!r} was stopped: {part} is larger than BACKUP_MAX_BYTES = {most}."
        )


class BackupStorageFailed(OrganizationError):
    """STORAGES["backups"] did not store, read or remove a file."""

    code = "backup_storage_failed"

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"The backup storage failed: {what} ({why}). The log has more.")


class BackupStorageUnknown(BackupStorageFailed):
    """STORAGES["backups"] lacks this installation's mark: not mounted, or another installation's.

    So backups missing there do not count as lost.
    """

    code = "backup_storage_unknown"

    def __init__(self, mark: str) -> None:
        OrganizationError.__init__(
            self,
            f"The backup storage is not the one that this installation used: it has no file "
            f"{mark}. Mount the disk, or set BACKUP_ROOT. To use another storage from now on, copy "
            "the old one's content there, or create that file.",
        )


class BackupNotVerified(OrganizationError):
    """A verification had no result, which says nothing about the backup."""

    code = "backup_not_verified"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"A backup of {name!r} was not verified: {why} The backup may still be good."
        )


class BackupMissing(OrganizationError):
    """An organization is to be dropped at once, and has no recent verified backup."""

    code = "backup_missing"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} was not deleted: it has no verified backup from the last 24 hours (made "
            "after its latest restore). Make and verify one (backup_orgs, verify_backups), or use "
            "--without-backup."
        )


class BackupNotFound(OrganizationError):
    """The organization has no good backup."""

    code = "backup_not_found"

    def __init__(self, name: str, *, until: str = "") -> None:
        when = f" until {until}" if until else ""
        super().__init__(
            f"There is no good backup of {name!r}{when}. Make one with manage.py backup_orgs."
        )


class BackupNeeded(OrganizationError):
    """An archived organization can only be thawed from this backup."""

    code = "backup_needed"

    def __init__(self, backup: str) -> None:
        super().__init__(
            f"The backup {backup} was not removed: an archived organization can only be thawed "
            "from it."
        )


class BackupInvalid(OrganizationError):
    """Base class: what is stored, or what it restores, is not what was backed up."""

    code = "backup_invalid"


class BackupDamaged(BackupInvalid):
    """A part of a backup, or its manifest, is missing, incomplete or changed."""

    code = "backup_damaged"

    def __init__(self, backup: str, what: str) -> None:
        super().__init__(f"The backup {backup} is damaged: {what}.")


class BackupUnsigned(OrganizationError):
    """None of CREDENTIAL_KEYS signed the manifest; a key that is not listed may have."""

    code = "backup_unsigned"

    def __init__(self, backup: str) -> None:
        super().__init__(
            f"The manifest of the backup {backup} is not signed by any of CREDENTIAL_KEYS. If it "
            "was made with an older key, add that key to the end of CREDENTIAL_KEYS."
        )


class BackupKeyMissing(OrganizationError):
    """The key that encrypted a backup is not one of BACKUP_ENCRYPTION_KEYS. key: its id."""

    code = "backup_key_missing"

    def __init__(self, backup: str, key: str) -> None:
        super().__init__(
            f"The backup {backup} is encrypted for the key {key}. Add its secret key to "
            "the end of BACKUP_ENCRYPTION_KEYS."
        )


class BackupForeign(BackupInvalid):
    """A backup is another installation's or organization's, or another backup's copy."""

    code = "backup_foreign"

    def __init__(self, backup: str, whose: str) -> None:
        super().__init__(f"The backup {backup} is not the expected one: it belongs to {whose}.")


class BackupNewer(OrganizationError):
    """A backup was made by a newer version than this one, which therefore cannot judge it."""

    code = "backup_newer"

    def __init__(self, backup: str, what: str) -> None:
        super().__init__(f"The backup {backup} cannot be read here: {what}.")


class BackupNotRestorable(BackupInvalid):
    """A backup is intact, but restoring it does not give what was backed up."""

    code = "backup_not_restorable"

    def __init__(self, backup: str, why: str) -> None:
        super().__init__(f"The backup {backup} cannot be restored: {why}.")


class RestoreFailed(OrganizationError):
    """A restore failed, for a reason that has no class of its own."""

    code = "restore_failed"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name!r} was not restored, and nothing was changed: {why}")


class RestoreUnfinished(OrganizationError):
    """An organization was switched, but its files could not be exchanged yet."""

    code = "restore_unfinished"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name!r} is switched, but serves no requests until its files are exchanged: {why}. "
            "Workers and `manage.py reconcile_orgs` try again."
        )


class RestoreDeclined(OrganizationError):
    """The list of users that would change was refused, or only the list was wanted."""

    code = "restore_declined"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} was not restored, and nothing was changed.")


class RestoreRunning(OrganizationError):
    """The organization is being restored, or a job for it is waiting."""

    code = "restore_running"

    def __init__(self, name: str) -> None:
        super().__init__(f"A restore of {name!r} is waiting or running. Nothing was changed.")


class NothingToUndo(OrganizationError):
    """No restore of the organization keeps a database to switch back to."""

    code = "restore_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"No restore of {name!r} can be undone: there was none, or what it kept was dropped."
        )


class AdoptionRefused(OrganizationError):
    """This database cannot be adopted."""

    code = "adoption_refused"

    def __init__(self, database: str, why: str) -> None:
        super().__init__(f"{database} was not adopted: {why}.")


class FirstEditionUnreadable(OrganizationError):
    """A database of the FastAPI edition cannot be read, or is not what that edition made."""

    code = "first_edition_unreadable"

    def __init__(self, database: str, why: str) -> None:
        super().__init__(f"The FastAPI edition's {database} was not read: {why}.")


class CacheUnavailable(OrganizationError):
    """Redis cannot be reached, so nothing can be counted or cached."""

    code = "cache_unavailable"

    def __init__(self) -> None:
        super().__init__("The shared cache is unavailable right now. Try again shortly.")


class TooManyOrganizations(OrganizationError):
    """There are as many organizations as ORG_MAX_ORGANIZATIONS allows."""

    code = "too_many_organizations"

    def __init__(self) -> None:
        super().__init__(
            "The limit of organizations is reached. Try again later, or contact support."
        )


class SignUpClosed(OrganizationError):
    """ORG_SIGNUP is `staff` or `off`, so this caller may not sign up."""

    code = "signup_closed"

    def __init__(self) -> None:
        super().__init__("Sign-up is closed. Contact support.")


class CredentialUnreadable(OrganizationError):
    """None of CREDENTIAL_KEYS decrypts the organization's stored password."""

    code = "credential_unreadable"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The stored database password of {name!r} cannot be decrypted. "
            "Add the key that encrypted it to CREDENTIAL_KEYS."
        )


class SignUpUnknown(OrganizationError):
    """An unknown status URL, or one whose sign-up ended long ago."""

    code = "sign_up_not_found"

    def __init__(self) -> None:
        super().__init__("This sign-up does not exist or ended long ago. Log in, or sign up.")


class JobWaits(OrganizationError):
    """A job of a suspended organization, which runs when it is resumed. is_over: it was resumed.

    seconds: until it checks by itself; 0: as often as any waiting job.
    """

    code = "job_waits"

    def __init__(self, *, is_over: bool, seconds: int = 0) -> None:
        self.is_over = is_over
        self.seconds = seconds
        super().__init__("The organization is suspended. The job runs when it is resumed.")


class JobRefused(OrganizationError):
    """A job that names no organization, or a different one than its lock."""

    code = "job_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The job was refused: {reason} Nothing was done.")


class MigrationFailed(OrganizationError):
    """A job could not migrate an organization. The master's record has the same error."""

    code = "migration_failed"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The database of {name!r} was not migrated: {reason}")


class SessionEnded(OrganizationError):
    """A suspension or an operator ended the session of a job, or its connection was lost."""

    code = "session_ended"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The session with the database of {name!r} was ended or lost while the job used it. "
            "The job runs again."
        )


class MigrationsIncoherent(OrganizationError):
    """The tenant apps' migrations in the code are inconsistent, so no database can be made."""

    code = "migrations_incoherent"


class HistoryInconsistent(OrganizationError):
    """A database has a migration applied but not one that it depends on."""

    code = "migration_history_inconsistent"

    def __init__(self, migration: str, *, lacks: str) -> None:
        super().__init__(
            f"{migration} is applied, but {lacks}, which it depends on, is not. Somebody changed "
            "django_migrations or the code's migrations. See docs/migrations.md, "
            '"Inconsistent history".'
        )


class MigrationHalfDone(OrganizationError):
    """A non-atomic migration failed; __cause__ is its error."""

    code = "migration_half_done"

    def __init__(self, migration: str) -> None:
        super().__init__(f"{migration} is not atomic: what it did before this error remains.")


class HistoryUnreadable(OrganizationError):
    """An organization's django_migrations is not the expected table; it may be a view."""

    code = "history_unreadable"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"The table django_migrations of {name!r} {reason}. Repair it and try again."
        )


class OtherCode(OrganizationError):
    """The job's migrations are not those of the worker's code."""

    code = "other_code"

    def __init__(self) -> None:
        super().__init__(
            "The worker's migrations are not those that the job was enqueued with. Restart the "
            "workers with the code that migrate_orgs was run from."
        )


class QueryTooSlow(OrganizationError):
    """query_orgs: the statement did not end in time."""

    code = "query_too_slow"

    def __init__(self, seconds: int) -> None:
        super().__init__(f"The statement took longer than {seconds} seconds, and was stopped.")


class QueryTooLarge(OrganizationError):
    """query_orgs: one organization's answer is too large to hold in memory."""

    code = "query_too_large"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The answer is larger than ORG_MAX_ANSWER_BYTES = {most}. Ask for fewer columns or "
            "rows."
        )


class QueryWithoutRows(OrganizationError):
    """query_orgs: the statement returns no rows, so it could only change something."""

    code = "query_without_rows"

    def __init__(self) -> None:
        super().__init__("Not run: this statement returns no rows. Ask with SELECT.")


class ExportExists(OrganizationError):
    """The file that an export should be written to exists."""

    code = "export_exists"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} exists already. Nothing was written: name another file.")


class ExportFailed(OrganizationError):
    """An organization's data could not be read, or the file not be written."""

    code = "export_failed"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name!r} was not exported, and no file is left: {why}")


class ExportTookTooLong(OrganizationError):
    """An export did not end within EXPORT_DEADLINE_SECONDS."""

    code = "export_took_too_long"

    def __init__(self, name: str, *, seconds: int) -> None:
        super().__init__(
            f"{name!r} was not exported, and no file is left: it took longer than "
            f"EXPORT_DEADLINE_SECONDS = {seconds}."
        )


class ExportTooLarge(OrganizationError):
    """What an export would contain, or one row of it, is larger than allowed."""

    code = "export_too_large"

    def __init__(self, name: str, what: str, *, setting: str, most: int) -> None:
        super().__init__(
            f"{name!r} was not exported, and no file is left: {what} is larger than {setting} = "
            f"{most}."
        )


class ExportNotFound(OrganizationError):
    """There is no such export, or the link to it has expired or was made for another login."""

    code = "export_not_found"

    def __init__(self) -> None:
        super().__init__("There is no export here. Get a new link, or request a new export.")


class MailServerUnavailable(OrganizationError):
    """The mail server cannot be reached, or accepts no mail from us right now."""

    code = "mail_server_unavailable"

    def __init__(self, kind: str) -> None:
        super().__init__(f"The mail server did not accept the mail ({kind}). It will be retried.")


class MailRefused(OrganizationError):
    """The mail server rejected this mail permanently."""

    code = "mail_refused"

    def __init__(self, kind: str) -> None:
        super().__init__(f"The mail server rejected the mail permanently ({kind}).")


class JobNotFound(OrganizationError):
    """The job does not exist, or belongs to another organization."""

    code = "job_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such job. See the list of jobs.")


class JobWrongState(OrganizationError):
    """The job's status does not allow this."""

    code = "job_wrong_state"

    def __init__(self, job_id: int, *, status: str, why: str) -> None:
        super().__init__(f"Job {job_id} is {status}: {why}")


# Their messages are for the operator; a stranger only learns that it was not their fault.
FOR_OPERATORS = (
    ProvisioningFailed,
    ServerRefused,
    CredentialUnreadable,
    MigrationsIncoherent,
    SessionsRemain,
)
# A later retry can succeed: answered 503.
UNAVAILABLE = (
    CacheUnavailable,
    InstallationUnclaimed,
    OrganizationMigrating,
    ServerUnavailable,
    TookTooLong,
    TooManyOrganizations,
)
OUR_FAULT = "Something went wrong on our side. The error was logged; try again later."
