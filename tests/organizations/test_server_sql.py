"""What a superuser runs once on the server."""

from collections.abc import Iterator

import psycopg
import pytest

from organizations.provisioning.server_sql import server_statements

from .helpers import Superuser, manage

ROLE, MASTER = 'tricky"role; --', "tricky'master\" %s"


@pytest.fixture
def fresh(superuser: Superuser) -> Iterator[None]:
    """A role without rights and a master database of awkward names."""
    role, master = psycopg.sql.Identifier(ROLE), psycopg.sql.Identifier(MASTER)
    superuser.execute(psycopg.sql.SQL("CREATE ROLE {}").format(role))
    superuser.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(master))
    yield
    superuser.execute(psycopg.sql.SQL("DROP DATABASE {}").format(master))
    superuser.execute(psycopg.sql.SQL("DROP ROLE {}").format(role))


def test_the_statements_do_what_they_are_for_and_can_be_repeated(
    superuser: Superuser, fresh: None
) -> None:
    for _ in range(2):
        for statement in server_statements(application_role=ROLE, master_database=MASTER):
            superuser.execute(statement)
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
        "SELECT has_database_privilege(%s, %s, 'CONNECT')", (ROLE, MASTER)
    ).fetchone() == (True,)


def test_the_command_prints_them_and_asks_no_server(superuser: Superuser) -> None:
    ended = manage("server_sql", MASTER_DB_HOST="127.0.0.1", MASTER_DB_PORT="1")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("-- Run as a superuser")
    assert 'ALTER ROLE "orgmgmt" LOGIN CREATEDB CREATEROLE;' in lines
    assert "REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;" in lines
    for line in lines[1:]:
        superuser.execute(line.encode())
