"""All domain errors: one class per cause, for organizations and accounts.

Each message says which organization and what to do. `code` is what the API and `--json` show. Only
orgmgmt/exceptions.py maps them to HTTP status codes.
"""

import math


class OrganizationError(Exception):
    """Root of everything below."""

    code = "organization_error"


class OrganizationNotFound(OrganizationError):
    """No organization has this name, slug or id, or it is not ready, or it is gone."""

    code = "organization_not_found"

    def __init__(self, what: str = "") -> None:
        named = f" called {what!r}" if what else ""
        super().__init__(f"There is no organization{named}. Check the spelling, or sign up first.")


class OrganizationExists(OrganizationError):
    """The name, or one that a person would confuse with it, is taken."""

    code = "organization_exists"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The name {name!r} is taken (case, spaces and punctuation are ignored). "
            "Choose another name."
        )


class OrganizationBusy(OrganizationError):
    """Somebody else is creating, deleting or cleaning up this organization right now."""

    code = "organization_busy"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The organization {name!r} is being created or deleted at this moment. "
            "Try again shortly."
        )


class OrganizationSuspended(OrganizationError):
    """The organization exists, and its people may not work in it for now."""

    code = "organization_suspended"

    def __init__(self, name: str, *, organization_id: int | None = None) -> None:
        self.organization_id = organization_id
        super().__init__(f"The organization {name!r} is suspended. Ask the platform's staff.")


class OrganizationMigrating(OrganizationError):
    """Its database lacks a migration that this code needs, and ORG_VERSION_SKEW is `strict`."""

    code = "organization_migrating"

    def __init__(self, name: str, *, organization_id: int | None = None) -> None:
        self.organization_id = organization_id
        super().__init__(
            f"The organization {name!r} is being brought to a new version at this moment. "
            "Try again shortly."
        )


class MigrationUnknown(OrganizationError):
    """The target of a migration is no tenant app, or none of its migrations, or several."""

    code = "migration_unknown"

    def __init__(self, label: str, name: str | None, *, known: list[str]) -> None:
        what = f"tenant app {label!r}" if name is None else f"one migration {name!r} of {label!r}"
        super().__init__(f"There is no {what}. There are: {', '.join(known)}.")


class OrganizationMismatch(OrganizationError):
    """A header or a host names another organization than the credential does."""

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
        super().__init__(f"The organization {name!r} is {status}; this needs it to be {wanted}.")


class ProvisioningInTransaction(OrganizationError):
    """Provisioning was called inside a transaction, where CREATE DATABASE cannot run."""

    code = "provisioning_in_transaction"

    def __init__(self) -> None:
        super().__init__(
            "Creating or deleting an organization inside transaction.atomic() is not possible: "
            "PostgreSQL refuses CREATE DATABASE there. Call it outside."
        )


class ProvisioningFailed(OrganizationError):
    """A step of provisioning failed; what it had made has been taken back."""

    code = "provisioning_failed"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The organization {name!r} could not be created: {reason}")


class ServerUnavailable(OrganizationError):
    """The PostgreSQL server cannot be reached, or has no connection free."""

    code = "database_unavailable"

    def __init__(self, reason: str = "") -> None:
        super().__init__(
            "The database cannot be reached at this moment. Try again shortly."
            + (f" ({reason})" if reason else "")
        )


class TookTooLong(OrganizationError):
    """A statement met its time limit, or waited for a lock as long as it may."""

    code = "took_too_long"

    def __init__(self) -> None:
        super().__init__("The database took too long, and the request was given up. Try again.")


class ServerRefused(OrganizationError):
    """The PostgreSQL server answered a statement of ours with an error that is no outage."""

    code = "database_refused"

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"The database server refused a step ({kind}). Nothing is lost: see the log, run "
            "`manage.py check --database default`, then `manage.py reconcile_orgs`."
        )


class DatabaseInUse(ServerRefused):
    """A database that somebody is connected to: a person's psql, or a backup."""

    code = "database_in_use"

    def __init__(self, kind: str) -> None:
        Exception.__init__(
            self,
            f"Somebody is connected to the database ({kind}). Nothing is lost: end that session "
            "(pg_stat_activity shows it), then run `manage.py reconcile_orgs`.",
        )


class DatabaseKept(OrganizationError):
    """Row, identity, OID and owner do not agree, so that nothing is dropped."""

    code = "database_kept"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name!r} is left as it is: {why}. `manage.py check_orgs` says what to do."
        )


class InstallationUnclaimed(OrganizationError):
    """This master is a copy: its server or its database is not the recorded one."""

    code = "installation_unclaimed"

    def __init__(self) -> None:
        super().__init__(
            "This master database is a copy, and the databases that it names may be another "
            "installation's. Nothing is touched. The platform's staff decide: see `manage.py "
            "claim_installation --help`."
        )


class MasterStillThere(OrganizationError):
    """A copy wants the place of a master that is still on the server."""

    code = "master_still_there"

    def __init__(self) -> None:
        super().__init__(
            "The master that this one was copied from is still on this server. Use --new to be an "
            "installation beside it, or drop it first."
        )


class NothingToClaim(OrganizationError):
    """The master is where it belongs: by no claim would anything be gained, and its own lost."""

    code = "nothing_to_claim"

    def __init__(self) -> None:
        super().__init__("This master is where it belongs. Nothing to claim.")


class ProgramMissing(OrganizationError):
    """pg_dump or pg_restore is not on this machine."""

    code = "program_missing"

    def __init__(self, program: str) -> None:
        super().__init__(
            f"{program} was not found. Install PostgreSQL's client programs, at least as new as "
            "the server, and set POSTGRES_BIN to their folder where it is not in PATH."
        )


class CopyFailed(OrganizationError):
    """The content of a database could not be copied into another."""

    code = "copy_failed"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The content of {name!r} could not be copied; it is where it was: {why}")


class AdoptionRefused(OrganizationError):
    """A database is not one that can be brought back."""

    code = "adoption_refused"

    def __init__(self, database: str, why: str) -> None:
        super().__init__(f"{database} is not adopted: {why}.")


class CacheUnavailable(OrganizationError):
    """Redis cannot be reached, so that nothing can be counted or cached."""

    code = "cache_unavailable"

    def __init__(self) -> None:
        super().__init__("The shared cache cannot be reached at this moment. Try again shortly.")


class TooManyOrganizations(OrganizationError):
    """There are as many organizations as ORG_MAX_ORGANIZATIONS allows."""

    code = "too_many_organizations"

    def __init__(self) -> None:
        super().__init__(
            "No more organizations are taken in here at this time. Try again later, or ask those "
            "who run the platform."
        )


class SignUpClosed(OrganizationError):
    """ORG_SIGNUP lets no stranger make an organization, or nobody over HTTP."""

    code = "signup_closed"

    def __init__(self) -> None:
        super().__init__("Sign-up is closed here. Ask those who run the platform.")


class CredentialUnreadable(OrganizationError):
    """None of CREDENTIAL_KEYS opens the organization's stored password."""

    code = "credential_unreadable"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The stored database password of {name!r} cannot be opened. "
            "Add the key that sealed it to CREDENTIAL_KEYS."
        )


class SignUpUnknown(OrganizationError):
    """A status URL that was never given out, or whose sign-up ended long ago."""

    code = "sign_up_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such sign-up, or it ended long ago. Log in, or sign up.")


class JobRefused(OrganizationError):
    """A job that names no organization, or another than its lock does."""

    code = "job_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The job was refused: {reason} Nothing was done.")


class MigrationFailed(OrganizationError):
    """A job's migration of one organization; the master's record of it says the same."""

    code = "migration_failed"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The database of {name!r} is where it was before: {reason}")


class MigrationsIncoherent(OrganizationError):
    """The code's migrations of the tenant apps are such that no database can be made by them."""

    code = "migrations_incoherent"


class HistoryInconsistent(OrganizationError):
    """A database has a migration without one that it depends on."""

    code = "migration_history_inconsistent"

    def __init__(self, migration: str, *, lacks: str) -> None:
        super().__init__(
            f"{migration} is applied, and {lacks}, which it depends on, is not. Somebody has "
            "changed django_migrations, or the code's migrations. Record what is there, or take "
            'back what is not: docs/migrations.md, "A history that cannot be".'
        )


class MigrationHalfDone(OrganizationError):
    """A migration that is in no transaction failed; its cause is the error that it met."""

    code = "migration_half_done"

    def __init__(self, migration: str) -> None:
        super().__init__(f"{migration} is not atomic: what it did before this error stays done.")


class HistoryUnreadable(OrganizationError):
    """What an organization's database says of its migrations is no such thing: it can be a view."""

    code = "history_unreadable"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"The table django_migrations of {name!r} {reason}. Look at what it is, repair it and "
            "try again."
        )


class OtherCode(OrganizationError):
    """A job that is for other migrations than its worker has."""

    code = "other_code"

    def __init__(self) -> None:
        super().__init__(
            "This worker has other migrations than the job is for. Restart the workers with the "
            "code that migrate_orgs was run from."
        )


class MailServerUnavailable(OrganizationError):
    """The mail server cannot be reached, or takes no mail from us at this moment."""

    code = "mail_server_unavailable"

    def __init__(self, kind: str) -> None:
        super().__init__(f"The mail server took no mail ({kind}). It is tried again.")


class MailRefused(OrganizationError):
    """The mail server will not take this mail, however often it is tried."""

    code = "mail_refused"

    def __init__(self, kind: str) -> None:
        super().__init__(f"The mail server refused the mail for good ({kind}).")


class JobNotFound(OrganizationError):
    """There is no such job, or it is another organization's."""

    code = "job_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such job. Look into the list of jobs.")


class JobWrongState(OrganizationError):
    """What was asked of a job does not fit what it is doing."""

    code = "job_wrong_state"

    def __init__(self, job_id: int, *, status: str, why: str) -> None:
        super().__init__(f"Job {job_id} is {status}: {why}")


# Their sentences tell the operator what to do; a stranger learns that it was not their fault.
FOR_OPERATORS = (ProvisioningFailed, ServerRefused, CredentialUnreadable, MigrationsIncoherent)
# Another try later can succeed: answered 503.
UNAVAILABLE = (
    CacheUnavailable,
    InstallationUnclaimed,
    OrganizationMigrating,
    ServerUnavailable,
    TookTooLong,
    TooManyOrganizations,
)
OUR_FAULT = (
    "This could not be done, for a reason on our side. Nothing is half made. It has been logged; "
    "try again later."
)


class AccountError(Exception):
    """Root of what can go wrong with a person's account in an organization."""

    code = "account_error"


class InvalidCredentials(AccountError):
    """Wrong e-mail, wrong password or an inactive user: one answer for all three."""

    code = "invalid_credentials"

    def __init__(self) -> None:
        super().__init__("E-mail or password is wrong, or the account is not active.")


class AdminRequired(AccountError):
    """Right password, but the user is no admin of the organization."""

    code = "admin_required"

    def __init__(self) -> None:
        super().__init__("Only the organization's admins may do this.")


class TooManyRequests(AccountError):
    """More requests than a limit allows; seconds says when the next one may come."""

    code = "throttled"

    def __init__(self, seconds: float, what: str = "requests") -> None:
        self.seconds = max(1, math.ceil(seconds))
        unit = "second" if self.seconds == 1 else "seconds"
        super().__init__(f"Too many {what}. Try again in {self.seconds} {unit}.")


class LoginDelayed(TooManyRequests):
    """Log-ins of this account have failed too often; until then none is tried."""

    code = "login_delayed"

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds, "failed logins")


class InvalidToken(AccountError):
    """A token that is malformed, expired, revoked, of another kind or of another organization."""

    code = "invalid_token"

    def __init__(self) -> None:
        super().__init__("The token is invalid, expired or revoked. Log in again.")


class InvalidLink(AccountError):
    """A link from a mail that is malformed, expired, used up, or somebody else's: one answer."""

    code = "invalid_link"

    def __init__(self) -> None:
        super().__init__("This link is invalid or has expired. Request a new one.")


class UserExists(AccountError):
    """The e-mail address is taken in this organization."""

    code = "user_exists"

    def __init__(self, email: str) -> None:
        super().__init__(f"A user with the e-mail address {email} exists already.")


class UserGone(AccountError):
    """The user was removed while this request was under way."""

    code = "user_gone"

    def __init__(self) -> None:
        super().__init__("This user has been removed. Load the list again.")


class LastAdmin(AccountError):
    """The change would leave the organization without an active admin."""

    code = "last_admin"

    def __init__(self) -> None:
        super().__init__(
            "This is the organization's last active admin. Make another user an admin first."
        )
