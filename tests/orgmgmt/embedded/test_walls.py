"""Embedded PostgreSQL: who can connect to it or read its passwords."""

import os
import stat
from pathlib import Path

import psycopg
import pytest

from orgmgmt.embedded import system
from orgmgmt.embedded.postgres import EmbeddedPostgres

from .helpers import ask


def test_connecting_needs_the_right_and_the_password(
    running: EmbeddedPostgres,
) -> None:
    superuser, application = running.superuser_parameters(), running.connection_parameters()
    for database in ("postgres", "template1", "master_org_db"):
        query = f"SELECT has_database_privilege('public', '{database}', 'CONNECT')"
        assert ask(superuser, query) is False, database
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        ask(application | {"dbname": "postgres"}, "SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ask(superuser | {"password": "wrong"}, "SELECT 1")


def test_nothing_listens_on_a_network_and_the_socket_wants_scram(
    running: EmbeddedPostgres,
) -> None:
    parameters = running.superuser_parameters()
    assert ask(parameters, "SHOW listen_addresses") == ""
    query = "SELECT array_agg(DISTINCT type || ' ' || auth_method) FROM pg_hba_file_rules"
    assert sorted(ask(parameters, query)) == ["host reject", "local scram-sha-256"]
    assert stat.S_IMODE(running.socket_dir.stat().st_mode) == 0o700


def test_data_and_passwords_are_closed_to_others(running: EmbeddedPostgres) -> None:
    data = (running.data_dir / "postgres").stat()
    assert stat.S_IMODE(data.st_mode) == 0o700
    assert (data.st_uid == 0) is False
    for name in ("postgres.password", "orgmgmt.password"):
        found = (running.data_dir / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
        assert found.st_size >= 43
    assert stat.S_IMODE((running.data_dir / "postgres.log").stat().st_mode) == 0o600


def test_passwords_are_on_no_command_line_and_in_no_log(
    first_start: tuple[Path, list[str]], running: EmbeddedPostgres
) -> None:
    (_, commands), server = first_start, running
    everything = "\n".join([*commands, (server.data_dir / "postgres.log").read_text()])
    assert "--pwfile=" in everything
    for parameters in (server.connection_parameters(), server.superuser_parameters()):
        assert str(parameters["password"]) not in everything
        assert str(parameters["password"]) not in repr(server)


def test_servers_programs_see_nothing_of_the_environment(
    running: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://somebody:secret@example/db")
    monkeypatch.setenv("PGDATA", "/elsewhere")
    shown = system.Account.of(running.data_dir / "postgres").run("env").stdout
    assert "secret" not in shown
    assert "PGDATA" not in shown


def test_the_log_holds_nothing_of_a_row_that_was_refused(running: EmbeddedPostgres) -> None:
    with psycopg.connect(**running.superuser_parameters()) as connection:  # type: ignore[arg-type]
        connection.execute("CREATE TEMP TABLE people (hash text, age int NOT NULL)")
        with pytest.raises(psycopg.errors.NotNullViolation):
            connection.execute("INSERT INTO people VALUES ('hash-of-a-password', NULL)")
        connection.rollback()
    written = (running.data_dir / "postgres.log").read_text()
    assert "violates not-null constraint" in written
    assert "hash-of-a-password" not in written
