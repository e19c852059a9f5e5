"""`manage.py query_orgs`: one read-only statement in many organizations."""

import csv
import hashlib
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from psycopg import sql
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import InstallationUnclaimed
from organizations.models import AuditEntry, Installation
from organizations.postgres import installation
from organizations.tenancy import guard, keeper
from tests import processes
from tests.conftest import Company, Superuser
from tests.organizations.helpers import REPOSITORY, process_environment
from tests.organizations.tenancy.hostile import (
    FOREVER,
    active,
    run,
    until_none_is_active,
)

EMAILS = "SELECT email FROM users ORDER BY id LIMIT 1"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.ORG_MAX_ANSWER_BYTES = 1_000_000
    monkeypatch.setattr(guard, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(guard, "CANCEL_SECONDS", 0.3)


def query(*words: object, code: int = 0, **options: float) -> tuple[str, str]:
    """The command's stdout and stderr; it must end with this exit code.

    options: as the command gets them, which may be what nobody can type.
    """
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("query_orgs", *map(str, words), stdout=out, stderr=err, **options)
    except CommandError as error:
        assert error.returncode == code, (error, err.getvalue())
        return out.getvalue(), f"{err.getvalue()}{error}"
    assert code == 0, out.getvalue()
    return out.getvalue(), err.getvalue()


def asked(*words: object, code: int = 0, **options: float) -> dict[str, dict[str, Any]]:
    """The answers as JSON, by the organization's name."""
    document = json.loads(query(*words, "--json", code=code, **options)[0])
    found = {each["name"]: each for each in document["organizations"]}
    counts = document["counts"]
    assert counts["organizations"] == len(found) == len(document["organizations"])
    assert counts["failed"] == sum("error" in each for each in found.values())
    return found


@contextmanager
def made(company: Company, *statements: str, undo: str) -> Iterator[None]:
    run(company, *statements)
    try:
        yield
    finally:
        run(company, undo)


# --- Answers ------------------------------------------------------------------------------------
def test_each_organization_answers_with_its_own_rows(alpha: Company, beta: Company) -> None:
    found = asked(EMAILS, "--all", "--parallel", 2)
    assert found[alpha.name]["rows"] == [[alpha.email]]
    assert found[beta.name]["rows"] == [[beta.email]]
    assert found[alpha.name]["columns"] == ["email"]
    # Any spelling; options between the words.
    assert set(asked(EMAILS, "--limit", 5, "ACME corp")) == {alpha.name}


def test_values_keep_what_json_can_hold_and_null_is_none(alpha: Company) -> None:
    statement = "SELECT 1::int8, true, NULL, 1.50::numeric, 'NaN'::float8, date '2026-01-02', '1'"
    (answer,) = asked(statement, alpha.name)[alpha.name]["rows"]
    assert answer == [1, True, None, "1.50", "NaN", "2026-01-02", "1"]


def test_what_an_organization_set_for_its_role_changes_no_value(
    alpha: Company, superuser: Superuser
) -> None:
    role = sql.Identifier(alpha.organization.role_name)
    theirs = {
        "datestyle": "German",
        "standard_conforming_strings": "off",
        "default_transaction_isolation": "serializable",
        "bytea_output": "escape",
    }
    alter = sql.SQL("ALTER ROLE {} SET {} = {}")
    for name, value in theirs.items():
        superuser.execute(alter.format(role, sql.Identifier(name), sql.Literal(value)))
    try:
        statement = r"SELECT date '2026-01-02', 'a\x', '\x00'::bytea"
        (answer,) = asked(statement, alpha.name)[alpha.name]["rows"]
    finally:
        for name in theirs:
            superuser.execute(sql.SQL("ALTER ROLE {} RESET {}").format(role, sql.Identifier(name)))
    assert answer == ["2026-01-02", r"a\x", r"\x00"]


def test_a_suspended_organization_is_asked_too(alpha: Company) -> None:
    lifecycle.suspend_organization(alpha.organization)
    try:
        assert asked(EMAILS, "--all")[alpha.name]["rows"] == [[alpha.email]]
    finally:
        lifecycle.resume_organization(alpha.organization)


def test_the_row_limit_applies_to_each_organization_and_is_reported(
    alpha: Company, beta: Company
) -> None:
    endless = "SELECT generate_series(1, 9000000000)"
    for answer in asked(endless, alpha.name, beta.name, "--limit", 3).values():
        assert (answer["rows"], answer["has_more"]) == ([[1], [2], [3]], True)
    exact = asked("SELECT n FROM generate_series(1, 3) AS n", alpha.name, "--limit", 3)
    assert exact[alpha.name]["has_more"] is False
    _, err = query(endless, alpha.name, "--limit", 3)
    assert err == f"{alpha.name}: only the first 3 rows: there are more (--limit)\n"


# --- Formats ------------------------------------------------------------------------------------
def test_a_table_has_the_organization_first_and_its_columns_once(
    alpha: Company, beta: Company
) -> None:
    out, _ = query(
        "SELECT 'x' AS a, NULL AS b, '漢字' AS c", alpha.name, beta.name, "--parallel", 1
    )
    assert out.splitlines() == [
        "organization  a  b  c",
        "------------  -  -  ----",
        "Acme Corp     x     漢字",
        "Acme-Corp 2   x     漢字",
        "2 rows, 2 organizations",
    ]


HOSTILE = r"E'\x1b[2J\u202e\u009b\r', E'=1+1', E'a\n;@x', 'plain'"


def test_no_value_reaches_the_terminal_as_a_control_character(alpha: Company) -> None:
    statement = f"""SELECT {HOSTILE} AS "=n", repeat('x', 300) AS "b\u202e" """
    raw = "\x1b[2J\u202e\u009b\r"
    for form in ("table", "csv", "json"):
        out, _ = query(statement, alpha.name, "--format", form)
        assert not {*raw} - {*"[2J"} & {*out.replace("\r\n", "\n")}, form
    (row,) = asked(statement, alpha.name)[alpha.name]["rows"]
    assert row[0] == raw, "JSON escapes it and loses nothing"
    table, _ = query(statement, alpha.name)
    assert r"\x1b[2J\u202e\x9b\r" in table
    assert f"{'x' * 200}…" in table


def test_no_cell_of_csv_is_a_formula(alpha: Company, beta: Company) -> None:
    out, _ = query(f'SELECT {HOSTILE} AS "=n"', alpha.name, "--format", "csv")
    head, row = csv.reader(io.StringIO(out))
    assert head == ["organization", "?column?", "?column?", "?column?", "'=n"]
    assert row == [alpha.name, r"\x1b[2J\u202e\x9b\r", "'=1+1", "a\n;'@x", "plain"]
    out, _ = query("SELECT -12.50, '-12.50+1'", alpha.name, "--format", "csv")
    assert list(csv.reader(io.StringIO(out)))[1] == [alpha.name, "-12.50", "'-12.50+1"]


def test_csv_names_the_columns_again_where_they_change(alpha: Company, beta: Company) -> None:
    view = "CREATE VIEW odd AS SELECT 1 AS "
    with (
        made(alpha, f"{view} a", undo="DROP VIEW odd"),
        made(beta, f"{view} b", undo="DROP VIEW odd"),
    ):
        words = ("SELECT * FROM odd", alpha.name, beta.name, "--parallel", 1, "--format", "csv")
        assert query(*words)[0].splitlines() == [
            *("organization,a", f"{alpha.name},1", "organization,b", f"{beta.name},1"),
        ]


# --- Nothing is changed -------------------------------------------------------------------------
REFUSED = {
    "INSERT INTO users (email) VALUES ('x') RETURNING id": "cannot execute INSERT in a read-only",
    "WITH gone AS (DELETE FROM users RETURNING id) SELECT * FROM gone": "in a read-only",
    "SELECT 1; DELETE FROM users": "cannot insert multiple commands",
    "SELECT writes()": "in a read-only",
    "CALL lets_write(NULL)": "read-write mode must be set before any query",
    "SELECT nextval('users_id_seq')": "cannot execute nextval() in a read-only",
    **dict.fromkeys(
        (
            "DELETE FROM users",
            "SET TRANSACTION READ WRITE",
            "COMMIT",
            "PREPARE TRANSACTION 'left'",
            "COPY users TO PROGRAM 'cat'",
            "COPY users TO STDOUT",
            "DO $$ BEGIN COMMIT; END $$",
            "LISTEN them",
            "",
        ),
        "query_without_rows: Not run",
    ),
}


def test_nothing_is_written_whatever_the_statement_is(alpha: Company) -> None:
    writes = """CREATE FUNCTION writes() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
        PERFORM set_config('default_transaction_read_only', 'off', false);
        BEGIN PERFORM set_config('transaction_read_only', 'off', false);
        EXCEPTION WHEN OTHERS THEN NULL; END;
        DELETE FROM login_sessions; UPDATE users SET is_admin = false; RETURN 1;
    END $$"""
    lets_write = """CREATE PROCEDURE lets_write(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN
        SET TRANSACTION READ WRITE; UPDATE users SET is_admin = false;
    END $$"""
    undo = "DROP FUNCTION writes; DROP PROCEDURE lets_write"
    with made(alpha, writes, lets_write, undo=undo):
        for statement, said in REFUSED.items():
            answer = asked(statement, alpha.name, code=2)[alpha.name]
            assert said in answer["error"], (statement, answer)
    with tenancy.override(alpha.tenant):
        assert User.objects.filter(is_admin=True).exists()


def test_what_a_session_leaves_ends_with_it(alpha: Company, superuser: Superuser) -> None:
    for statement in ("SELECT pg_notify('x', 'y')", "SELECT pg_advisory_lock(7)"):
        assert asked(statement, alpha.name)[alpha.name]["rows"]
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7"
    deadline = time.monotonic() + 10
    while superuser.execute(held.encode()).fetchone() != (0,):
        assert time.monotonic() < deadline, "its session has not ended"
        time.sleep(0.05)


# --- Hostile ground -----------------------------------------------------------------------------
TOO_SLOW = "query_too_slow: The statement took longer than 0.5 seconds, and was stopped."
TOO_LARGE = "query_too_large: The answer is larger than ORG_MAX_ANSWER_BYTES = 1000000."
TRAPS = {
    # It lifts the server's timeout, and continues after each cancel.
    "SELECT forever() AS email": TOO_SLOW,
    "SELECT pg_sleep(1e9)::text AS email": TOO_SLOW,
    "SELECT repeat('x', 20000000) AS email": TOO_LARGE,
    "SELECT repeat('x', 5000) AS email FROM generate_series(1, 1000)": TOO_LARGE,
    "SELECT (1 / 0)::text AS email": "DivisionByZero: division by zero",
    "SELECT email::int::text AS email FROM users": 'invalid input syntax for type integer: "…"',
}


@pytest.mark.timeout(60)
def test_a_trap_is_an_error_of_its_organization_alone_and_ends(
    alpha: Company, beta: Company, superuser: Superuser
) -> None:
    for view, said in TRAPS.items():
        undo = "DROP VIEW trap; DROP FUNCTION IF EXISTS forever"
        function = (FOREVER,) if "forever()" in view else ()
        honest = "CREATE VIEW trap AS SELECT email FROM users LIMIT 1"
        with (
            made(alpha, *function, f"CREATE VIEW trap AS {view}", undo=undo),
            made(beta, honest, undo="DROP VIEW trap"),
        ):
            began = time.monotonic()
            words = ("SELECT email FROM trap", alpha.name, beta.name)
            # Only what never ends needs a short limit.
            found = asked(*words, timeout=0.5 if said == TOO_SLOW else 30, code=2)
            assert time.monotonic() - began < 5, view
            assert said in found[alpha.name]["error"], view
            assert found[beta.name]["rows"] == [[beta.email]], view
            assert keeper.shared.flush(10)
            until_none_is_active(superuser, alpha)


@pytest.mark.timeout(60)
def test_rows_past_the_limit_that_do_not_end_are_terminated(
    alpha: Company, superuser: Superuser
) -> None:
    # Rows that fill the server's buffer, so that it sends them, and then no more.
    statement = "SELECT repeat('x', 9000), n > 5 AND forever() FROM generate_series(1, 6) AS n"
    with made(alpha, FOREVER, undo="DROP FUNCTION forever"):
        answer = asked(statement, alpha.name, "--limit", 2, "--timeout", 30)[alpha.name]
        assert (len(answer["rows"]), answer["has_more"]) == (2, True)
        assert keeper.shared.flush(10)
        until_none_is_active(superuser, alpha)


@pytest.mark.timeout(60)
def test_an_endless_statement_is_terminated_even_with_a_pooler(
    alpha: Company, superuser: Superuser, settings: Settings
) -> None:
    """There what belongs to requests has the pooler's process ids; this has the server's."""
    settings.MASTER_DB_DIRECT = settings.DATABASES["default"]
    with made(alpha, FOREVER, undo="DROP FUNCTION forever"):
        answer = asked("SELECT forever()", alpha.name, timeout=0.5, code=2)[alpha.name]
        assert answer["error"] == TOO_SLOW
        assert keeper.shared.flush(10)
        until_none_is_active(superuser, alpha)


@pytest.mark.timeout(60)
def test_ctrl_c_ends_what_runs_though_it_swallows_its_cancel(
    alpha: Company, superuser: Superuser, tmp_path: Path
) -> None:
    words = ("query_orgs", "SELECT forever()", alpha.name, "--timeout", "600")
    said = tmp_path / "said"
    with (
        made(alpha, FOREVER, undo="DROP FUNCTION forever"),
        processes.running(
            "manage.py", *words, cwd=REPOSITORY, env=process_environment(), log=said
        ) as process,
    ):
        deadline = time.monotonic() + 30
        while not active(superuser, alpha):
            assert time.monotonic() < deadline, "it has not begun"
            time.sleep(0.02)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        process.join(20)
        assert process.exitcode == 130
    assert "terminated by the master" in said.read_text()
    assert "Traceback" not in said.read_text()
    until_none_is_active(superuser, alpha)


# --- Who may, and what is recorded --------------------------------------------------------------
def test_a_run_is_recorded_by_the_statements_digest(alpha: Company) -> None:
    statement = "SELECT id FROM users WHERE email = 'jane@secret.example'"
    query(statement, alpha.name)
    entry = AuditEntry.objects.filter(act="organizations.queried").latest("id")
    assert entry.organization_id is None
    assert entry.facts == {
        "sha256": hashlib.sha256(statement.encode()).hexdigest(),
        "length": len(statement),
        "organizations": 1,
        "ids": [str(alpha.organization.pk)],
    }
    query("SELECT 1", "--all")
    entry = AuditEntry.objects.filter(act="organizations.queried").latest("id")
    assert set(entry.facts) == {"sha256", "length", "organizations"}


def test_nothing_is_asked_where_it_is_unclear_whom(alpha: Company) -> None:
    before = AuditEntry.objects.count()
    with pytest.raises(CommandError, match="The SQL is not valid UTF-8"):
        call_command("query_orgs", "SELECT \udcff", "--all")
    for words, said in (
        ((), "Name the organizations to ask, or ask --all."),
        ((alpha.name, "--all"), "Name the organizations to ask, or ask --all."),
        ((alpha.name, "No Such Company"), "There is no organization called 'No Such Company'"),
        ((alpha.name, "--limit", 0), "--parallel and --limit must be 1 or more."),
        ((alpha.name, "--timeout", 0), "--timeout must be from 1 to 86400."),
    ):
        out, err = query("SELECT 1", *words, code=1)
        assert (out, said in err) == ("", True), err
    assert AuditEntry.objects.count() == before


def test_a_copy_of_a_master_asks_nobody(alpha: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Installation.objects.get()
    monkeypatch.setattr(installation, "_was_sure", False)
    Installation.objects.update(database_oid=1)
    try:
        out, err = query("SELECT 1", "--all", code=1)
    finally:
        Installation.objects.update(database_oid=row.database_oid)
    assert (out, err) == ("", str(InstallationUnclaimed()))
