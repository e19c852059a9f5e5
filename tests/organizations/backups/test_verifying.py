"""Verifying backups: what is refused, with which error; hostile dumps; leftovers."""

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg import sql
from pytest_django import Settings

from organizations import lifecycle, secrets
from organizations.backups import making, manifest, runs, verifying
from organizations.errors import (
    BackupDamaged,
    BackupForeign,
    BackupInvalid,
    BackupNewer,
    BackupNotFound,
    BackupNotRestorable,
    BackupNotVerified,
    BackupRunning,
    BackupTookTooLong,
    BackupUnsigned,
    OrganizationError,
)
from organizations.inspecting import checking
from organizations.models import AuditEntry, BackupRun, SpareDatabase
from organizations.postgres.sessions import open_session
from organizations.provisioning.scratch import scratch_database
from tests.conftest import Company, Superuser, leftovers
from tests.organizations.deadlines import Clock
from tests.organizations.helpers import as_role_of, kill_in_a_fork, kill_this_process

from .helpers import execute

State = BackupRun.State
Change = Callable[[dict[str, Any]], None]


def rewritten(path: Path, change: Change, *, signed: bool) -> None:
    """Change the manifest, and sign it if `signed` as the installation would."""
    document = json.loads(path.read_text())
    change(document)
    if signed:
        said = {"format": document["format"], "manifest": document["manifest"]}
        document["signature"] = secrets.sign(manifest._canonical(said), salt=manifest._SALT)
    path.write_text(json.dumps(document))


def says(**facts: Any) -> Change:
    return lambda document: document["manifest"].update(facts)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def of_manifest(change: Change, *, signed: bool = True) -> Callable[[Path], None]:
    return lambda folder: rewritten(folder / "manifest.json", change, signed=signed)


def of_dump(act: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: act(folder / "database.dump")


FAULTS: dict[str, tuple[Callable[[Path], object], type[OrganizationError], str]] = {
    "truncated": (of_dump(cut), BackupDamaged, r"database.dump has \d+ of \d+ bytes"),
    "bit-flipped": (of_dump(flip_a_bit), BackupDamaged, r"not what was stored \(SHA-256\)"),
    "longer": (of_dump(grow), BackupDamaged, r"not what was stored \(SHA-256\)"),
    "without its dump": (of_dump(Path.unlink), BackupDamaged, "database.dump is missing"),
    "without a manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        BackupDamaged,
        "manifest.json is missing",
    ),
    "a manifest cut short": (
        lambda folder: cut(folder / "manifest.json"),
        BackupDamaged,
        "its manifest cannot be read",
    ),
    "nested deeply": (
        lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
        BackupDamaged,
        "its manifest cannot be read",
    ),
    "unsigned": (
        of_manifest(lambda document: document.pop("signature"), signed=False),
        BackupUnsigned,
        "not signed by any of CREDENTIAL_KEYS",
    ),
    "changed after signing": (
        of_manifest(says(tables=[]), signed=False),
        BackupUnsigned,
        "not signed by any of CREDENTIAL_KEYS",
    ),
    "another installation's": (
        of_manifest(says(installation="0" * 32), signed=False),
        BackupForeign,
        "it belongs to another installation",
    ),
    "of a newer format": (
        of_manifest(lambda document: document.update(format=3), signed=False),
        BackupNewer,
        "its format is 3, and this version reads 2",
    ),
    "of a newer server": (
        of_manifest(says(server_version=190_001)),
        BackupNewer,
        "PostgreSQL 19 made it, and this server is 18",
    ),
    "rows that differ": (
        of_manifest(lambda document: document["manifest"]["tables"][2].__setitem__(2, 2)),
        BackupNotRestorable,
        "the number of rows in public.users differs from the manifest's",
    ),
    "migrations that differ": (
        of_manifest(says(migrations=["accounts.0001_initial"])),
        BackupNotRestorable,
        "its migrations differ from the manifest's",
    ),
}


def each_fault(run: BackupRun, folder: Path) -> Iterator[tuple[str, type[OrganizationError], str]]:
    """Have the good run each of FAULTS in turn: its name, the error and the sentence."""
    whole = folder.parent / "whole"
    shutil.copytree(folder / run.folder, whole)
    for fault, (change, kind, sentence) in FAULTS.items():
        change(folder / run.folder)
        yield fault, kind, sentence
        shutil.rmtree(folder / run.folder)
        shutil.copytree(whole, folder / run.folder)
        BackupRun.objects.filter(pk=run.pk).update(state=State.GOOD)


def test_a_backup_that_is_not_what_it_should_be_is_refused_by_its_own_sentence(
    alpha: Company, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = making.back_up(alpha.organization)
    entries = AuditEntry.objects.filter(act="backup.refused", facts__backup=run.key)
    told: list[int] = []
    for fault, kind, sentence in each_fault(run, folder):
        caplog.clear()
        with pytest.raises(kind, match=sentence) as caught:
            verifying.verify(run, name=alpha.name)
        run.refresh_from_db()
        # What another key signed, or a newer version wrote, cannot be judged here.
        is_bad = issubclass(kind, BackupInvalid)
        state = State.BAD if is_bad else State.GOOD
        found = (run.state, run.error, run.error_code, run.verified_at)
        assert found == (state, str(caught.value), kind.code, None), fault
        told += [alpha.organization.pk] * is_bad
        assert list(entries.values_list("organization_id", flat=True)) == told, fault
        levels = [each.levelno for each in caplog.records if "not verified" in each.message]
        assert levels == [logging.ERROR], fault
        assert verifying.newest_good(alpha.organization) == (None if is_bad else run), fault


def test_a_backup_of_another_organization_or_another_time_is_refused(
    alpha: Company, beta: Company, folder: Path
) -> None:
    older, newer, betas = (making.back_up(row.organization) for row in (alpha, alpha, beta))
    for stored, whose in ((betas, "another organization"), (older, "another backup")):
        shutil.rmtree(folder / newer.folder)
        shutil.copytree(folder / stored.folder, folder / newer.folder)
        BackupRun.objects.filter(pk=newer.pk).update(state=State.GOOD)
        with pytest.raises(BackupForeign, match=f"it belongs to {whose}"):
            verifying.verify(newer, name=alpha.name)


def test_a_backup_verifies_as_long_as_its_key_is_listed(
    alpha: Company, folder: Path, settings: Settings
) -> None:
    run = making.back_up(alpha.organization)
    new, old = Fernet.generate_key().decode(), settings.CREDENTIAL_KEYS
    settings.CREDENTIAL_KEYS = [new, *old]
    verifying.verify(run, name=alpha.name)
    settings.CREDENTIAL_KEYS = [new]
    with pytest.raises(BackupUnsigned, match="add that key to the end of CREDENTIAL_KEYS"):
        verifying.verify(run, name=alpha.name)


def test_a_dump_newer_than_pg_restore_is_no_fault_of_the_backup(
    alpha: Company, folder: Path
) -> None:
    run = making.back_up(alpha.organization)
    rewritten(folder / run.folder / "manifest.json", says(client_version=19), signed=True)
    with pytest.raises(Exception, match="pg_restore is version 18, and at least 19"):
        verifying.verify(run, name=alpha.name)
    run.refresh_from_db()
    assert (run.state, run.error_code) == (State.GOOD, "program_too_old")


# --- The owner's code in a dump -------------------------------------------------------------------
# Whatever it finds out or does happens as whoever restores it.
_HARM = """
CREATE FUNCTION harm() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE act text;
BEGIN
    FOREACH act IN ARRAY ARRAY[
        'ALTER ROLE CURRENT_USER SUPERUSER', 'CREATE ROLE harmed', 'CREATE DATABASE harmed',
        'GRANT orgmgmt TO CURRENT_USER', 'ALTER SYSTEM SET log_statement = ''all''',
        'COPY (SELECT 1) TO PROGRAM ''touch /tmp/harmed'''
    ] LOOP
        BEGIN
            EXECUTE act;
        EXCEPTION WHEN OTHERS THEN CONTINUE;
        END;
        RETURN false;
    END LOOP;
    RETURN true;
END $$
"""
_SLEEP = """
CREATE FUNCTION sleep() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    WHILE current_database() LIKE 'orgmgmt%' LOOP
        BEGIN
            PERFORM pg_sleep(600);
        EXCEPTION WHEN query_canceled THEN NULL;
        END;
    END LOOP;
    RETURN true;
END $$
"""
_TRIGGER = """
CREATE FUNCTION harm_by_trigger() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM harm(); RETURN NEW; END $$
"""


def test_the_code_in_a_dump_runs_as_the_throw_away_role_and_harms_nobody(
    company: Callable[..., Company], folder: Path, superuser: Superuser
) -> None:
    made = company()
    execute(
        made,
        _HARM,
        _TRIGGER,
        "CREATE TABLE trap (n int DEFAULT 1, CHECK (harm()))",
        "CREATE TRIGGER harms BEFORE INSERT ON trap FOR EACH ROW "
        "EXECUTE FUNCTION harm_by_trigger()",
        "ALTER TABLE trap ENABLE ALWAYS TRIGGER harms",
        "INSERT INTO trap DEFAULT VALUES",
        "CREATE INDEX ON trap ((n + 1)) WHERE n IS NOT NULL",
        "CREATE MATERIALIZED VIEW seen AS SELECT harm()",
    )
    supers = "SELECT array_agg(rolname ORDER BY 1) FROM pg_roles WHERE rolsuper"
    before = superuser.execute(supers).fetchone()
    verifying.verify(making.back_up(made.organization), name=made.name)
    assert superuser.execute(supers).fetchone() == before
    for query in (
        "SELECT FROM pg_roles WHERE rolname = 'harmed'",
        "SELECT FROM pg_database WHERE datname = 'harmed'",
    ):
        assert superuser.execute(query.encode()).fetchone() is None
    assert not Path("/tmp/harmed").exists()  # noqa: S108
    assert leftovers(superuser) == (set(), set())


@pytest.mark.timeout(60)
def test_a_constraint_that_sleeps_is_ended_at_the_deadline(
    company: Callable[..., Company],
    folder: Path,
    settings: Settings,
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = company()
    execute(made, _SLEEP, "CREATE TABLE t (n int, CHECK (sleep()))", "INSERT INTO t VALUES (1)")
    run = making.back_up(made.organization)
    clock = Clock(monkeypatch, settings.BACKUP_DEADLINE_SECONDS)
    with pytest.raises(BackupTookTooLong, match="verification of .* was stopped"):
        verifying.verify(run, name=made.name, goes_on=clock.until_asleep(superuser))
    run.refresh_from_db()
    assert (run.state, run.error_code, run.verified_at) == (
        State.GOOD,
        "backup_took_too_long",
        None,
    )
    assert leftovers(superuser) == (set(), set())
    sleeping = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    assert superuser.execute(sleeping).fetchone() is None


_REFUSE = """
CREATE FUNCTION refuse() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_database() LIKE 'orgmgmt%' THEN
        RAISE EXCEPTION 'restored by % and %, of %', current_user, session_user, ARRAY(
            SELECT rolname FROM pg_roles
            WHERE pg_has_role(oid, 'MEMBER') AND rolname <> 'pg_database_owner');
    END IF;
    RETURN true;
END $$
"""


def test_a_constraint_that_refuses_its_own_rows_fails_as_the_throw_away_role(
    company: Callable[..., Company],
    folder: Path,
    superuser: Superuser,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = company()
    table = "CREATE TABLE t (n text, CHECK (refuse()))"
    execute(made, _REFUSE, table, "INSERT INTO t VALUES ('somebodys secret')")
    run = making.back_up(made.organization)
    with pytest.raises(BackupNotVerified, match="pg_restore ended with an error") as caught:
        verifying.verify(run, name=made.name)
    run.refresh_from_db()
    assert (run.state, run.error_code) == (State.GOOD, "backup_not_verified")
    (failed,) = [each for each in caplog.records if each.message == "pg_restore failed"]
    said = re.search(r"restored by (\w+) and (\w+), of \{([\w,]+)\}", vars(failed)["output"])
    assert said is not None, vars(failed)["output"]
    assert "secret" not in vars(failed)["output"], "no row is quoted"
    assert re.fullmatch(r"orgrole_[0-9a-f]{16}", said[1])
    assert set(said.groups()) == {said[1]}, "it is a member of another role"
    assert said[1] != made.organization.role_name
    assert said[1] not in str(caught.value)
    assert leftovers(superuser) == (set(), set())


# --- The server's trouble -------------------------------------------------------------------------
_TROUBLE = """
CREATE OR REPLACE FUNCTION trouble() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_database() LIKE 'orgmgmt%' THEN {} END IF;
    RETURN true;
END $$
"""


def test_what_the_server_lacks_says_nothing_about_the_backup(
    company: Callable[..., Company], folder: Path, superuser: Superuser
) -> None:
    made = company()
    execute(made, _TROUBLE.format("NULL;"), "CREATE TABLE t (n int, CHECK (trouble()))")
    execute(made, "INSERT INTO t VALUES (1)")
    for trouble in (
        "RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full';",
        "PERFORM pg_terminate_backend(pg_backend_pid());",
    ):
        execute(made, _TROUBLE.format(trouble))
        run = making.back_up(made.organization)
        with pytest.raises(BackupNotVerified, match="The backup may still be good"):
            verifying.verify(run, name=made.name)
        run.refresh_from_db()
        found = (run.state, run.error_code, run.verified_at)
        assert found == (State.GOOD, BackupNotVerified.code, None), trouble
        assert leftovers(superuser) == (set(), set()), trouble


def test_a_throw_away_database_that_another_dropped_says_nothing_about_the_backup(
    alpha: Company, folder: Path, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older version's reconcile_orgs does, which does not know of them."""
    run = making.back_up(alpha.organization)
    restore = verifying.restore

    def then_drop(run: BackupRun, read: Any, where: dict[str, Any], **named: Any) -> None:
        restore(run, read, where, **named)
        statement = sql.SQL("DROP DATABASE {} WITH (FORCE)")
        superuser.execute(statement.format(sql.Identifier(where["dbname"])))

    monkeypatch.setattr(verifying, "restore", then_drop)
    with pytest.raises(BackupNotVerified, match="could not be read"):
        verifying.verify(run, name=alpha.name)
    run.refresh_from_db()
    assert run.state == State.GOOD
    assert leftovers(superuser) == (set(), set())


def test_a_dump_that_changes_after_it_was_checked_is_refused_by_its_own_sentence(
    alpha: Company, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = making.back_up(alpha.organization)
    check = verifying.check

    def then_cut(*arguments: Any, **named: Any) -> Any:
        read = check(*arguments, **named)
        cut(folder / run.folder / "database.dump")
        return read

    monkeypatch.setattr(verifying, "check", then_cut)
    with pytest.raises(BackupDamaged, match=r"database.dump has \d+ of \d+ bytes"):
        verifying.verify(run, name=alpha.name)


def test_a_verification_can_be_stopped_while_it_reads(
    alpha: Company, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = making.back_up(alpha.organization)
    monkeypatch.setattr(verifying, "scratch_database", None)
    with pytest.raises(BackupNotVerified, match="It was stopped"):
        verifying.verify(run, name=alpha.name, goes_on=lambda: False)


# --- What is left ---------------------------------------------------------------------------------
def test_what_a_killed_verification_left_is_dropped_by_reconciling(
    alpha: Company, folder: Path, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = making.back_up(alpha.organization)
    restore = verifying.restore

    def then_die(*arguments: Any, **named: Any) -> None:
        restore(*arguments, **named)
        kill_this_process()

    monkeypatch.setattr(verifying, "restore", then_die)
    kill_in_a_fork(lambda: verifying.verify(run, name=alpha.name))
    (spare,) = SpareDatabase.objects.filter(fingerprint="")
    assert leftovers(superuser) == ({spare.database_name}, {spare.role_name})

    assert lifecycle.reconcile_organizations()["undone"] == [
        f"spare database {spare.database_name}"
    ]
    assert leftovers(superuser) == (set(), set())
    monkeypatch.undo()
    run.refresh_from_db()
    verifying.verify(run, name=alpha.name)


def test_one_that_is_worked_in_is_no_leftover_and_no_problem(superuser: Superuser) -> None:
    with open_session(new=True) as session, scratch_database(session) as where:
        assert lifecycle.reconcile_organizations()["undone"] == []
        assert leftovers(superuser)[0] == {where["dbname"]}
        problems = [each for each in checking.check(None) if each.problems]
        assert where["dbname"] not in {each.subject for each in problems}
    assert leftovers(superuser) == (set(), set())


def test_it_neither_races_a_backup_nor_verifies_what_was_removed(
    alpha: Company, folder: Path
) -> None:
    run = making.back_up(alpha.organization)
    with runs.locked(alpha.organization.key, name=alpha.name) as session:
        with pytest.raises(BackupRunning):
            verifying.verify(run, name=alpha.name)
        assert session.value("SELECT true")
        runs.remove(run)
    with pytest.raises(BackupNotFound):
        verifying.verify(run, name=alpha.name)


_LET_IN = """
CREATE FUNCTION let_in() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_database() LIKE 'orgmgmt%' THEN
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO {}', current_database());
        EXECUTE format('ALTER DATABASE %I SET lock_timeout = 1', current_database());
    END IF;
    RETURN true;
END $$
"""


def test_a_session_that_the_dumps_code_let_in_does_not_keep_the_database(
    company: Callable[..., Company],
    folder: Path,
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = company()
    role = made.organization.role_name
    execute(
        made,
        _LET_IN.format(role),
        "CREATE TABLE t (n int, CHECK (let_in()))",
        "INSERT INTO t VALUES (1)",
    )
    run = making.back_up(made.organization)
    compare, inside = verifying.compare, ExitStack()

    def meanwhile(run: BackupRun, read: Any, where: dict[str, Any], *, until: float) -> None:
        stranger = inside.enter_context(as_role_of(made.organization, where["dbname"]))
        stranger.execute("BEGIN")
        compare(run, read, where, until=until)

    monkeypatch.setattr(verifying, "compare", meanwhile)
    with suppress(psycopg.OperationalError), inside:
        verifying.verify(run, name=made.name)
        assert leftovers(superuser) == (set(), set())
    run.refresh_from_db()
    assert run.verified_at is not None
