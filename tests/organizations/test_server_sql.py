"""The SQL that a superuser runs once on the server."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from psycopg import sql

from organizations.management.commands import server_sql
from organizations.postgres.superuser_sql import master_statements, server_statements
from tests.plugin import SERVER

from .helpers import REPOSITORY, Fork, Superuser, manage

ROLE, MASTER, PASSWORD = 'tricky"role; --', "tricky'master\" %s =\\x", "probe"
ENTRY = (
    "INSERT INTO audit_entries (act, actor, person, request_id, facts) "
    "VALUES ('x', '', '', '', '{}')"
)
# What would let the application's role change what it has written.
FORBIDDEN = [
    "UPDATE audit_entries SET act = 'y'",
    "DELETE FROM audit_entries",
    "TRUNCATE audit_entries",
    "DROP TABLE audit_entries",
    "ALTER TABLE audit_entries DISABLE TRIGGER ALL",
    "ALTER TABLE audit_entries RENAME TO hidden",
    "ALTER TABLE audit_entries OWNER TO CURRENT_USER",
    "DROP TRIGGER audit_entries_no_delete ON audit_entries",
    "CREATE TRIGGER mine BEFORE INSERT ON audit_entries FOR EACH ROW "
    "EXECUTE FUNCTION audit_entries_refuse()",
    "CREATE RULE mine AS ON INSERT TO audit_entries DO INSTEAD NOTHING",
    "CREATE TABLE child () INHERITS (audit_entries)",
    "CREATE OR REPLACE FUNCTION audit_entries_refuse() RETURNS trigger LANGUAGE sql AS ''",
    "CREATE OR REPLACE FUNCTION audit_prune(before timestamptz) RETURNS bigint LANGUAGE sql "
    "AS 'SELECT 0'",
    "DROP FUNCTION audit_prune(timestamptz)",
    "DROP FUNCTION audit_take_over()",
    "DROP SCHEMA public CASCADE",
    "ALTER SCHEMA public RENAME TO hidden",
    "CREATE SCHEMA mine",
    "SET ROLE orgmgmt_owner",
    "GRANT orgmgmt_owner TO CURRENT_USER",
    "ALTER ROLE orgmgmt_owner LOGIN",
    "SET session_replication_role = replica",
]


@pytest.fixture
def fresh(superuser: Superuser) -> Iterator[None]:
    """A role and a master database with awkward names."""
    role, master = sql.Identifier(ROLE), sql.Identifier(MASTER)
    create = sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}")
    superuser.execute(create.format(role, sql.Literal(PASSWORD)))
    superuser.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(master, role))
    yield
    superuser.execute(sql.SQL("DROP DATABASE {}").format(master))
    superuser.execute(sql.SQL("DROP ROLE {}").format(role))


@contextmanager
def connected(user: str = ROLE) -> Iterator[Superuser]:
    parameters: dict[str, Any] = SERVER.superuser_parameters(MASTER)
    if user == ROLE:
        parameters |= {"user": ROLE, "password": PASSWORD}
    with psycopg.connect(**parameters, autocommit=True) as connection:
        yield connection


def run_statements() -> None:
    with connected("postgres") as connection:
        for statement in server_statements(application_role=ROLE, master_database=MASTER):
            connection.execute(statement)
        for statement in master_statements(application_role=ROLE):
            connection.execute(statement)


def migrate(*arguments: str) -> None:
    """Migrate the fresh master, in a process that is connected to it."""

    def migrate_there() -> None:
        entry = {"USER": ROLE, "NAME": MASTER, "PASSWORD": PASSWORD}
        connections["default"].settings_dict.update(entry)
        call_command("migrate", *arguments, verbosity=0, interactive=False)

    with Fork(migrate_there) as child:
        assert child.wait() == 0


def assert_walls_stand() -> None:
    with connected() as connection:
        connection.execute(ENTRY.encode())
        for statement in FORBIDDEN:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
                pytest.fail(f"not refused: {statement}")
        assert connection.execute("SELECT count(*) > 0 FROM audit_entries").fetchone() == (True,)
        assert connection.execute("SELECT audit_prune(now() - interval '31 days')").fetchone() == (
            0,
        )
        connection.execute("CREATE TABLE of_a_later_migration (id int)")
        connection.execute("DROP TABLE of_a_later_migration")


@pytest.mark.usefixtures("fresh")
def test_the_applications_role_cannot_change_the_trail() -> None:
    """The statements after the migrations, and once more. Before them: with psql, below."""
    migrate()
    migrate("organizations", "0002")
    with connected() as connection:
        # Nothing was handed over yet: the migration can be taken back.
        connection.execute(ENTRY.encode())
        connection.execute("DELETE FROM audit_entries")
        assert connection.execute(
            "SELECT count(*) FROM pg_proc WHERE proname LIKE 'audit\\_%'"
        ).fetchone() == (0,)
    migrate()
    for _ in range(2):
        run_statements()
        assert_walls_stand()


@pytest.mark.usefixtures("fresh")
def test_the_next_migration_hands_a_half_migrated_trail_over() -> None:
    migrate("organizations", "0002")
    run_statements()
    migrate()
    assert_walls_stand()


@pytest.mark.usefixtures("fresh")
def test_the_statements_set_what_else_they_are_for(superuser: Superuser) -> None:
    superuser.execute(sql.SQL("ALTER ROLE {} NOCREATEDB").format(sql.Identifier(ROLE)))
    run_statements()
    assert superuser.execute(
        "SELECT rolcanlogin, rolcreatedb, rolcreaterole, rolsuper FROM pg_roles WHERE rolname = %s",
        (ROLE,),
    ).fetchone() == (True, True, True, False)
    for database in (MASTER, "postgres", "template1"):
        open_to_all = superuser.execute(
            "SELECT count(*) FROM pg_database, aclexplode(datacl) WHERE datname = %s "
            "AND grantee = 0",
            (database,),
        ).fetchone()
        assert open_to_all == (0,), database
    assert superuser.execute(
        "SELECT rolcanlogin, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = 'orgmgmt_owner'"
    ).fetchone() == (False, False, False)


@pytest.mark.usefixtures("fresh")
def test_psql_runs_the_printed_sql_and_printing_needs_no_server() -> None:
    nowhere = {"MASTER_DB_HOST": "127.0.0.1", "MASTER_DB_PORT": "1"}
    printed = manage("server_sql", MASTER_DB_USER=ROLE, MASTER_DB_NAME=MASTER, **nowhere)
    assert printed.returncode == 0, printed.stderr
    parameters = SERVER.superuser_parameters()
    ran = subprocess.run(
        [str(SERVER.bin_dir / "psql"), "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "--quiet"],
        input=printed.stdout,
        env={
            "PATH": os.environ["PATH"],
            "PGHOST": str(parameters["host"]),
            "PGUSER": "postgres",
            "PGPASSWORD": str(parameters["password"]),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    migrate()
    assert_walls_stand()


def test_a_role_that_would_own_what_it_writes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimpleNamespace(DATABASES={"default": {"USER": "orgmgmt_owner", "NAME": MASTER}})
    monkeypatch.setattr(server_sql, "settings", settings)
    with pytest.raises(CommandError, match="Use another role for the application."):
        call_command("server_sql")


def test_the_trial_with_docker_runs_the_same_statements() -> None:
    script = " ".join((REPOSITORY / "deploy" / "init.sh").read_text().split())
    for statement in (
        *server_statements(application_role="orgmgmt", master_database="master_org_db"),
        *master_statements(application_role="orgmgmt"),
    ):
        assert " ".join(f"{statement.as_string()};".split()) in script
