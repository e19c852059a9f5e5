"""The steps of a flow at which a fault strikes, and the locks that hold it there.

No product code knows of this. A superuser's session takes a lock that the flow's next statement
needs; pg_stat_activity shows when the flow waits for it. A lock on a table of the master lets one
write of each flow pass at a time: the next holder joins the queue after the flow,
before the present one lets go, and PostgreSQL hands locks over in the order of the queue.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.holder import Holder, Lock, NotHeld

ORGANIZATIONS = "LOCK TABLE organizations IN EXCLUSIVE MODE"
_MASTER_READS = (
    "LOCK TABLE organizations, staff, django_session, django_migrations IN ACCESS EXCLUSIVE MODE"
)
_MASTER_WRITES = (
    "LOCK TABLE organizations, staff, django_session, django_admin_log, auth_permission "
    "IN EXCLUSIVE MODE; SELECT 1 FROM audit_entries WHERE act = 'matrix.old' FOR UPDATE"
)
_TENANT_READS = "LOCK TABLE users, login_sessions IN ACCESS EXCLUSIVE MODE"
_TENANT_WRITES = "LOCK TABLE users, login_sessions IN EXCLUSIVE MODE"
_STOCK = "LOCK TABLE templates, spare_databases IN EXCLUSIVE MODE"
_ROLES = "LOCK TABLE pg_authid IN SHARE MODE"
_MEMBERS = "LOCK TABLE pg_auth_members IN SHARE MODE"
_DATABASES = "LOCK TABLE pg_database IN SHARE MODE"
# CREATE TABLE writes here whom the table belongs to.
_OWNERS = "LOCK TABLE pg_shdepend IN SHARE MODE"


# --- The steps ----------------------------------------------------------------------------------
Hold = Callable[[Holder], None]


@dataclass(frozen=True)
class Step:
    """A place in a flow. first: the lock taken before flows begin; then: how they get there."""

    name: str
    how: str
    first: Callable[[Holder], None] | None = None
    then: Callable[[Holder], None] | None = None


def _databases(holder: Holder) -> list[str]:
    """Databases of the organizations that the attempts work on."""
    standing = holder.world.tenant_database
    return sorted({attempt.database or standing for attempt in holder.attempts.values()})


def _new_databases(holder: Holder) -> list[str]:
    names = [attempt.makes for attempt in holder.attempts.values() if attempt.makes]
    rows = holder.world.rows(
        "SELECT database_name FROM organizations WHERE name = ANY(%s)", (names,)
    )
    return [str(row[0]) for row in rows]


def _reads(holder: Holder) -> None:
    holder.take(_MASTER_READS)


def _writes(holder: Holder) -> None:
    """Lock both sides, whichever the flow writes to first."""
    held: list[Lock] = []
    for database in _databases(holder):
        held.append(Lock(holder.world, database, _TENANT_WRITES))
    held.append(Lock(holder.world, "master_org_db", _MASTER_WRITES))
    for lock in held:
        lock.wait()
    holder.held = held


def _advance(column: str, value: str) -> Callable[[Holder], None]:
    """Let writes to `organizations` pass one by one, until all rows have come so far."""

    def then(holder: Holder) -> None:
        names = [attempt.makes for attempt in holder.attempts.values()]
        query = f"SELECT count(*) FROM organizations WHERE name = ANY(%s) AND {column} = %s"  # noqa: S608
        for _ in range(10):
            if holder.world.rows(query, (names, value)) == [(len(names),)]:
                return
            holder.take(ORGANIZATIONS)
            holder.wait_until_held()
        raise NotHeld(f"No row came to {column} = {value}.")

    return then


def _until_tables(holder: Holder) -> None:
    """The same until the new databases have their tables, and nobody has written that down."""
    _advance("provisioned", "database")(holder)
    for _ in range(10):
        if all(_has_tables(holder, database) for database in _new_databases(holder)):
            return
        holder.take(ORGANIZATIONS)
        holder.wait_until_held()
    raise NotHeld("No tables came to be.")


def _has_tables(holder: Holder, database: str) -> bool:
    with holder.world.connect(database) as connection:
        return connection.execute("SELECT to_regclass('users') IS NOT NULL").fetchone() == (True,)


def _advance_ids(value: str, *, fenced: bool) -> Callable[[Holder], None]:
    """The same for organizations that are ended: until the rows' status is so, and their sessions
    have been ended or not yet."""

    def then(holder: Holder) -> None:
        query = (
            "SELECT count(*) FROM organizations WHERE database_name = ANY(%s) "
            "AND status = ANY(%s) AND (pending_fence = '') = %s"
        )
        names = [attempt.database for attempt in holder.attempts.values()]
        for _ in range(10):
            if holder.world.rows(query, (names, value.split(), fenced)) == [(len(names),)]:
                return
            holder.take(ORGANIZATIONS)
            holder.wait_until_held()
        raise NotHeld(f"No row came to {value}.")

    return then


def _then_take(
    advance: Callable[[Holder], None], statement: str, *, new: bool = False
) -> Callable[[Holder], None]:
    def then(holder: Holder) -> None:
        advance(holder)
        holder.take(statement, _new_databases(holder) if new else ("master_org_db",))
        holder.wait_until_held()

    return then


def _then_commits(advance: Callable[[Holder], None] | None = None) -> Callable[[Holder], None]:
    def then(holder: Holder) -> None:
        if advance is not None:
            advance(holder)
        holder.take_commits()
        holder.wait_until_held()

    return then


def _organizations(holder: Holder) -> None:
    holder.take(ORGANIZATIONS)


def _counters(holder: Holder) -> None:
    holder.take("LOCK TABLE throttle_counters IN EXCLUSIVE MODE")


def _trail(holder: Holder) -> None:
    holder.take("LOCK TABLE audit_entries IN EXCLUSIVE MODE")


BEGIN = Step(
    "begin", "the fault exists when the flow begins; a kill or a cut comes at a random moment"
)
AFTER = Step("after", "the flow has been answered")
_recorded = "writes to `organizations` are let through one by one, until the row says `{}`"
ALL: tuple[Step, ...] = (
    BEGIN,
    Step("master-read", "a lock on the master's tables stops reading", _reads),
    Step("audit", "a lock on the audit trail's table", _trail),
    Step("counter", "a lock on the table of the rate limits' counters", _counters),
    Step(
        "tenant-read",
        "a lock on the organization's tables stops reading",
        lambda holder: holder.take(_TENANT_READS, _databases(holder)),
    ),
    Step(
        "write",
        "a lock on the tables that are written, in the master and the organization",
        _writes,
    ),
    Step(
        "role",
        "a lock on pg_authid stops CREATE ROLE",
        lambda holder: holder.take(_ROLES),
    ),
    Step(
        "role-recorded",
        _recorded.format("nothing") + ", and the role exists",
        _organizations,
        _advance("provisioned", "nothing"),
    ),
    Step(
        "database",
        "a lock on pg_database stops CREATE DATABASE, and the renaming of a spare",
        lambda holder: holder.take(_DATABASES),
    ),
    Step(
        "database-recorded",
        _recorded.format("role") + ", and the database exists",
        _organizations,
        _advance("provisioned", "role"),
    ),
    Step(
        "tables",
        "as before, then a lock on pg_shdepend stops the first CREATE TABLE, or a copy's new owner",
        _organizations,
        _then_take(_advance("provisioned", "role"), _OWNERS),
    ),
    Step(
        "tables-recorded",
        _recorded.format("database") + ", and the tables exist",
        _organizations,
        _until_tables,
    ),
    Step(
        "first-admin",
        "as before, then a lock on `users` of the new database stops the INSERT",
        _organizations,
        _then_take(_until_tables, _TENANT_WRITES, new=True),
    ),
    Step(
        "admin-recorded",
        _recorded.format("schema") + ", and the admin exists",
        _organizations,
        _advance("provisioned", "schema"),
    ),
    Step(
        "activation",
        _recorded.format("admin") + "; the activation waits",
        _organizations,
        _advance("provisioned", "admin"),
    ),
    Step(
        "activation-commit",
        "as before, then its commit waits for a standby that does not exist",
        _organizations,
        _then_commits(_advance("provisioned", "admin")),
    ),
    Step(
        "stock",
        "a lock on `templates` and `spare_databases` stops the row, before anything exists",
        lambda holder: holder.take(_STOCK),
    ),
    Step(
        "stock-commit",
        "as before, then its commit waits for a standby that does not exist",
        lambda holder: holder.take(_STOCK),
        _then_commits(),
    ),
    Step(
        "drop-database",
        "a lock on pg_database stops DROP DATABASE",
        lambda holder: holder.take(_DATABASES),
    ),
    Step(
        "drop-role",
        "a lock on pg_authid stops DROP ROLE",
        lambda holder: holder.take(_ROLES),
    ),
    Step(
        "tombstone",
        "writes to `organizations` are let through one by one, until the row says that it ends, "
        "and that its sessions have ended",
        _organizations,
        _advance_ids("deleting failed", fenced=True),
    ),
    Step(
        "fence",
        "a lock on pg_auth_members stops the end of the sessions; the row says `suspended` or "
        "`deleting`",
        lambda holder: holder.take(_MEMBERS),
    ),
    Step(
        "fence-ended",
        "writes to `organizations` are let through one by one, until the row says `suspended` or "
        "`deleting`; the write that the sessions have ended waits",
        _organizations,
        _advance_ids("suspended deleting", fenced=False),
    ),
    Step(
        "commit",
        "the first commit waits for a standby that does not exist: it is on disk, and nobody has "
        "been told",
        _writes,
        _then_commits(),
    ),
    AFTER,
)
BY_NAME = {step.name: step for step in ALL}
