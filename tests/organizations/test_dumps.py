"""Dumps of an organization contain its owner's code: how to take and restore them safely."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from organizations.secrets import unseal
from tests.conftest import Company, Superuser
from tests.organizations.helpers import as_role_of
from tests.plugin import SERVER

OPTIONS = "-c local_preload_libraries= -c default_transaction_read_only=off"
HOSTILE = """
CREATE FUNCTION rise(id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'ALTER ROLE {role} SUPERUSER';
    RETURN true;
EXCEPTION WHEN insufficient_privilege THEN
    RETURN true;
END $$;
CREATE TABLE trap (id bigint CHECK (rise(id)));
INSERT INTO trap VALUES (1);
ALTER DATABASE {database} SET local_preload_libraries = 'absent';
"""


def test_restoring_a_dump_as_its_role_makes_nobody_a_superuser(
    company: Callable[..., Company], superuser: Superuser, tmp_path: Path
) -> None:
    row = company().organization
    with as_role_of(row) as injected:
        text = HOSTILE.format(role=row.role_name, database=row.database_name)
        injected.execute(text.encode())
    dump = tmp_path / "dump"

    def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SERVER.bin_dir / program), *arguments, "--host", str(SERVER.socket_dir)],
            env={
                **os.environ,
                "PGUSER": row.role_name,
                "PGPASSWORD": unseal(row.sealed_password, owner=""),
                **environment,
            },
            capture_output=True,
            text=True,
        )

    arguments = ("--format=custom", f"--file={dump}", f"--dbname={row.database_name}")
    assert "absent" in run("pg_dump", *arguments).stderr, "the owner keeps plain dumps out"
    taken = run("pg_dump", *arguments, "--lock-wait-timeout=10s", PGOPTIONS=OPTIONS)
    assert taken.returncode == 0, taken.stderr
    names = [sql.Identifier(name) for name in ("restored_beside", row.role_name)]
    create = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0")
    superuser.execute(create.format(*names))
    try:
        how = ("--no-owner", "--no-privileges", "--exit-on-error", "--dbname=restored_beside")
        restored = run("pg_restore", *how, str(dump), PGOPTIONS=OPTIONS)
        assert restored.returncode == 0, restored.stderr
        query = "SELECT rolsuper FROM pg_roles WHERE rolname = %s"
        assert superuser.execute(query, (row.role_name,)).fetchone() == (False,)
        parameters = SERVER.superuser_parameters("restored_beside")
        with psycopg.connect(**parameters) as connection:  # type: ignore[arg-type]
            assert connection.execute("SELECT id FROM trap").fetchall() == [(1,)]
    finally:
        superuser.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(names[0]))
