"""Isolation attempts: injected SQL, run as A's role in A's database."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from django.db import Error as DatabaseError
from psycopg import sql

from organizations import tenancy

from .attempts import attempt
from .outcome import Broken, Crossed
from .stage import Stage

FAMILY = "sql"
Facts = dict[str, Any]
# By name: the statement, with {names} and {literals!l}, and SQLSTATEs besides 42501 that refuse it.
# None could do harm outside the two organizations if it were allowed.
STATEMENTS: dict[str, tuple[str, ...]] = {
    "SET ROLE to B's": ("SET ROLE {b_role}",),
    "SET ROLE to the application's": ("SET ROLE {app_role}",),
    "SET SESSION AUTHORIZATION": ("SET SESSION AUTHORIZATION {b_role}",),
    "a table of B's by its database's name": ("SELECT * FROM {b_database}.public.users", "0A000"),
    "CREATE EXTENSION dblink": ("CREATE EXTENSION dblink", "0A000", "58P01"),
    "CREATE EXTENSION postgres_fdw": ("CREATE EXTENSION postgres_fdw", "0A000", "58P01"),
    "CREATE EXTENSION file_fdw": ("CREATE EXTENSION file_fdw", "0A000", "58P01"),
    "CREATE FOREIGN DATA WRAPPER": ("CREATE FOREIGN DATA WRAPPER {new_name}",),
    "CREATE FUNCTION in C": (
        "CREATE FUNCTION {new_name}() RETURNS int AS 'libc', 'getpid' LANGUAGE c",
    ),
    "CREATE SUBSCRIPTION": (
        "CREATE SUBSCRIPTION {new_name} CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)",
    ),
    "COPY TO PROGRAM": ("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null'",),
    "COPY FROM PROGRAM": ("COPY users FROM PROGRAM 'true'",),
    "COPY TO a file": ("COPY (SELECT 1) TO '/dev/null'",),
    "COPY FROM a file": ("COPY users FROM '/dev/null'",),
    "pg_read_file": ("SELECT length(pg_read_file('PG_VERSION'))",),
    "pg_read_binary_file of B's files": ("SELECT length(pg_read_binary_file({b_file!l}))",),
    "pg_ls_dir": ("SELECT count(*) FROM pg_ls_dir('.')",),
    "pg_ls_logdir": ("SELECT count(*) FROM pg_ls_logdir()",),
    "lo_import": ("SELECT lo_import('/dev/null')",),
    "lo_export": ("SELECT lo_export(0, '/dev/null')",),
    "pg_authid": ("SELECT count(rolpassword) FROM pg_authid",),
    "pg_shadow": ("SELECT count(passwd) FROM pg_shadow",),
    "pg_hba_file_rules": ("SELECT count(*) FROM pg_hba_file_rules",),
    "GRANT B's role to A's": ("GRANT {b_role} TO {a_role}",),
    "GRANT CONNECT on B's database": ("GRANT CONNECT ON DATABASE {b_database} TO {a_role}",),
    "CREATE ROLE": ("CREATE ROLE {new_name}",),
    "ALTER ROLE of B's": ("ALTER ROLE {b_role} SET application_name TO 'crossed'",),
    "ALTER ROLE of its own to SUPERUSER": ("ALTER ROLE {a_role} SUPERUSER",),
    "ALTER ROLE of its own to CREATEDB": ("ALTER ROLE {a_role} CREATEDB",),
    "CREATE DATABASE from B's": ("CREATE DATABASE {new_name} TEMPLATE {b_database}",),
    "ALTER DATABASE of B's": ("ALTER DATABASE {b_database} SET application_name TO 'crossed'",),
    "ALTER DATABASE OWNER of B's": ("ALTER DATABASE {b_database} OWNER TO {a_role}",),
    "DROP DATABASE of B's": ("DROP DATABASE {b_database} WITH (FORCE)",),
    "ALTER SYSTEM": ("ALTER SYSTEM SET application_name TO ''",),
    "pg_reload_conf": ("SELECT pg_reload_conf()",),
    "CREATE TABLESPACE": ("CREATE TABLESPACE {new_name} LOCATION '/dev/null'",),
    "pg_create_physical_replication_slot": (
        "SELECT pg_create_physical_replication_slot({new_name!l})",
    ),
    "pg_terminate_backend of B's": ("SELECT pg_terminate_backend({b_pid!l})",),
    "pg_cancel_backend of B's": ("SELECT pg_cancel_backend({b_pid!l})",),
    "pg_database_size of B's": ("SELECT pg_database_size({b_database!l}::name)",),
}


@attempt(FAMILY, "SQL injected into a raw query of A's", over=lambda _: [*STATEMENTS])
def statement(stage: Stage, name: str) -> str:
    text, *also = STATEMENTS[name]
    with stage.theirs.direct() as there:
        facts = _facts(stage, there)
        with tenancy.override(stage.ours.tenant), tenancy.connection().cursor() as cursor:
            _expect_to_be(stage, cursor)
            try:
                cursor.execute(_composed(text, facts))
            except DatabaseError as error:
                return _refusal(error, {"42501", *also})
            finally:
                _take_back(cursor, facts)
    raise Crossed("it was executed")


def _facts(stage: Stage, there: psycopg.Connection[Any]) -> Facts:
    row = there.execute("SELECT pg_relation_filepath('users')").fetchone()
    return {
        "a_role": stage.ours.organization.role_name,
        "b_role": stage.theirs.organization.role_name,
        "b_database": stage.theirs.organization.database_name,
        "b_file": row[0] if row else "",
        "b_pid": there.info.backend_pid,
        "app_role": stage.server.connection.info.user,
        "new_name": f"isolation_check_{secrets.token_hex(8)}",
    }


def _composed(text: str, facts: Facts) -> sql.Composed:
    """`{name}` as an identifier, `{name!l}` as a literal."""
    quoted = {name: sql.Identifier(str(value)) for name, value in facts.items()}
    literals = {f"{name}_literal": sql.Literal(value) for name, value in facts.items()}
    return sql.SQL(text.replace("!l}", "_literal}")).format(**quoted, **literals)


def _expect_to_be(stage: Stage, cursor: Any) -> None:
    cursor.execute("SELECT current_user, current_database()")
    organization = stage.ours.organization
    if cursor.fetchone() != (organization.role_name, organization.database_name):
        raise Crossed("the query of A's does not run as A's role in A's database")


def _refusal(error: DatabaseError, accepted: set[str]) -> str:
    state = getattr(error.__cause__, "sqlstate", None)
    if state not in accepted:
        raise Broken(f"SQLSTATE {state}") from error
    return str(state)


def _take_back(cursor: Any, facts: Facts) -> None:
    """Undo an allowed statement: a new role or database, a set role."""
    for text in ("RESET ROLE", "RESET SESSION AUTHORIZATION"):
        cursor.execute(text)
    for kind, catalog, column in (
        ("DATABASE", "pg_database", "datname"),
        ("ROLE", "pg_roles", "rolname"),
    ):
        cursor.execute(f"SELECT 1 FROM {catalog} WHERE {column} = %s", [facts["new_name"]])  # noqa: S608
        if cursor.fetchone():
            name = sql.Identifier(facts["new_name"])
            cursor.execute(sql.SQL("DROP {} {}").format(sql.SQL(kind), name))


@attempt(FAMILY, "The text of B's queries in pg_stat_activity")
def activity(stage: Stage, subject: str) -> str:
    mark = f"isolation-check-{secrets.token_hex(8)}"
    seen = "SELECT query FROM pg_stat_activity WHERE pid = %s"
    with stage.theirs.direct() as there:
        there.execute(sql.SQL("SELECT {}").format(sql.Literal(mark)))
        pid = there.info.backend_pid
        with stage.theirs.direct() as beside:
            own = beside.execute(seen.encode(), (pid,)).fetchone()
        with stage.ours.direct() as here:
            found = here.execute(seen.encode(), (pid,)).fetchone()
    if own is None or mark not in str(own[0]):
        raise Broken("B itself does not see it")
    if found is not None and mark in str(found[0]):
        raise Crossed("it can be read")
    return "insufficient privilege"


@attempt(FAMILY, "A NOTIFY of A's reaches B's LISTEN")
def notified(stage: Stage, subject: str) -> str:
    def heard(sender: Callable[[], Any]) -> Sequence[object]:
        with stage.theirs.direct() as listener, sender() as connection:
            listener.execute("LISTEN isolation_check")
            connection.execute("NOTIFY isolation_check, 'from outside'")
            return list(listener.notifies(timeout=0.2, stop_after=1))

    if not heard(stage.theirs.direct):
        raise Broken("B does not hear its own")
    if heard(stage.ours.direct):
        raise Crossed("B heard it")
    return "B hears only its own"


@attempt(FAMILY, "A's advisory lock, temporary table or large object seen in B")
def left_about(stage: Stage, subject: str) -> str:
    number = secrets.randbelow(2**62)
    lock = b"SELECT pg_try_advisory_lock(%s)"
    with stage.ours.direct() as here, stage.theirs.direct() as there:
        if here.execute(lock, (number,)).fetchone() != (True,):
            raise Broken("A cannot take it")
        with stage.ours.direct() as beside:
            if beside.execute(lock, (number,)).fetchone() != (False,):
                raise Broken("A's lock keeps nobody out of A's")
        if there.execute(lock, (number,)).fetchone() != (True,):
            raise Crossed("A's lock keeps B out")
        here.execute("CREATE TEMPORARY TABLE isolation_check (mark text)")
        made = here.execute("SELECT lo_from_bytea(0, 'mark')").fetchone()
        oid = made[0] if made else 0
        try:
            if there.execute("SELECT to_regclass('isolation_check')").fetchone() != (None,):
                raise Crossed("B sees A's temporary table")
            found = there.execute(
                "SELECT count(*) FROM pg_largeobject_metadata WHERE oid = %s", (oid,)
            ).fetchone()
            if found != (0,):
                raise Crossed("B sees A's large object")
        finally:
            here.execute("SELECT lo_unlink(%s)", (oid,))
    return "each database has its own"


@attempt(FAMILY, "B's session count and statistics", by_nature=True)
def counters(stage: Stage, subject: str) -> str:
    database = stage.theirs.organization.database_name
    with stage.theirs.direct(), stage.ours.direct() as here:
        sessions = here.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (database,)
        ).fetchone()
        counted = here.execute(
            "SELECT count(*) FROM pg_stat_database WHERE datname = %s", (database,)
        ).fetchone()
    if sessions is None or counted is None:
        raise Broken("the server did not count")
    return f"{sessions[0]} sessions, {counted[0]} rows of counters"
