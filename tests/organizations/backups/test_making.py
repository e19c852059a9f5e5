"""Making a backup: what is stored, what is refused, and what is left of one that failed."""

import json
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage, storages
from django.core.management import CommandError, call_command
from django.db import connections
from psycopg import sql
from pytest_django import Settings

from organizations import lifecycle, tenancy
from organizations.backups import making, runs, snapshot, storing, verifying
from organizations.backups.snapshot import Session
from organizations.errors import (
    BackupFailed,
    BackupLocked,
    BackupObstructed,
    BackupRunning,
    BackupStorageFailed,
    BackupTookTooLong,
    BackupTooLarge,
    OrganizationNotFound,
    ProgramMissing,
    ProgramTooNew,
    ProgramTooOld,
    SessionEnded,
)
from organizations.models import AuditEntry, BackupRun, Organization
from organizations.postgres import programs, transfer
from organizations.provisioning import code, media
from organizations.secrets import unseal
from organizations.tenancy import OrganizationCrowded
from tests.conftest import Company, Superuser
from tests.organizations.deadlines import Clock
from tests.organizations.helpers import as_role_of, kill_in_a_fork, kill_this_process, together
from tests.plugin import SERVER

from .helpers import LARGE, Forgetful, Full, Interfering, execute, files_in, fill, the_run, use

State = BackupRun.State


def test_a_backup_holds_the_database_the_files_and_a_signed_manifest(
    alpha: Company, folder: Path, settings: Settings, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path / "files"
    media.leave_mark()
    content = bytes(range(256)) + LARGE.encode()
    with tenancy.override(alpha.tenant):
        default_storage.save("plans/größe.txt", ContentFile(content))
    run = making.back_up(alpha.organization)

    said = json.loads((folder / run.folder / "manifest.json").read_text())["manifest"]
    assert said["organization"] == alpha.organization.key
    assert said["fingerprint"] == code.current().fingerprint
    assert ["public", "users", 1] in said["tables"]
    assert [part["name"] for part in said["parts"]] == ["database.dump", "files.tar"]
    assert alpha.name not in json.dumps(said), "a manifest needs no names"
    with tarfile.open(folder / run.folder / "files.tar") as archive:
        (member,) = archive.getmembers()
        file = archive.extractfile(member)
        assert file is not None
        assert (member.name, file.read()) == ("plans/größe.txt", content)
    parts = {part["name"]: part["bytes"] for part in said["parts"]}
    for name, count in parts.items():
        assert (folder / run.folder / name).stat().st_size == count
    run.refresh_from_db()
    assert (run.state, run.bytes, run.verified_at) == (State.GOOD, sum(parts.values()), None)
    assert AuditEntry.objects.filter(act="backup.made", facts__backup=run.key).exists()
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o600}


def test_the_password_is_in_no_argument_and_on_no_line_of_the_log(
    alpha: Company,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    started: list[str] = []
    start = subprocess.Popen.__init__

    def note(self: Any, arguments: list[str], **named: Any) -> None:
        started.extend(map(str, arguments))
        start(self, arguments, **named)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    making.back_up(alpha.organization)
    password = unseal(alpha.organization.sealed_password, owner="")
    assert any(word.startswith("--snapshot=") for word in started)
    assert password not in " ".join(started) + caplog.text


def test_a_parameter_without_an_environment_variable_reaches_the_programs(
    alpha: Company, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as sslpassword. The server refuses a wrong value of this one."""
    parameters = transfer.parameters

    def right(*of: str) -> dict[str, Any]:
        return {**parameters(*of), "replication": "false"}

    monkeypatch.setattr(transfer, "parameters", right)
    verifying.verify(making.back_up(alpha.organization), name=alpha.name)
    row = alpha.organization
    where = right(row.database_name, row.role_name, unseal(row.sealed_password, owner=""))
    wrong = {**where, "replication": "perhaps"}
    with programs.Run(transfer.dump_command(), wrong, stdout=subprocess.DEVNULL) as run:
        assert run.end() == 1
    assert 'invalid value for parameter "replication"' in run.words


def test_a_suspended_organization_is_backed_up_and_a_deleted_one_is_not(
    company: Callable[..., Company], folder: Path
) -> None:
    made = company()
    lifecycle.suspend_organization(made.organization)
    verifying.verify(making.back_up(made.organization), name=made.name)
    lifecycle.resume_organization(made.organization)
    lifecycle.delete_organization(made.organization)
    with pytest.raises(OrganizationNotFound):
        making.back_up(made.organization)


def test_rows_are_those_of_one_moment_whatever_is_written_meanwhile(
    company: Callable[..., Company], folder: Path, settings: Settings
) -> None:
    made = company()
    fill(made)
    use(settings, Interfering)
    Interfering.act = staticmethod(lambda: execute(made, "INSERT INTO heap VALUES (0, 'late')"))
    try:
        run = making.back_up(made.organization)
    finally:
        Interfering.act = staticmethod(lambda: None)
    assert run.bytes > 3 * storing.CHUNK_BYTES, "chunks are put together nowhere"
    assert ["public", "heap", 20_000] in (
        json.loads((folder / run.folder / "manifest.json").read_text())["manifest"]["tables"]
    )
    verifying.verify(run, name=made.name)


def test_a_table_emptied_before_the_dump_is_locked_and_not_dumped_as_empty(
    company: Callable[..., Company], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot from before a TRUNCATE shows no rows: it is no version of theirs."""
    made = company()
    fill(made)
    refused: list[BaseException] = []
    begin = Session._begin

    def then_truncate(self: Session, tables: list[transfer.Table]) -> tuple[str, int] | None:
        begun = begin(self, tables)
        try:
            execute(made, "SET lock_timeout = '100ms'", "TRUNCATE heap")
        except psycopg.errors.LockNotAvailable as error:
            refused.append(error)
        return begun

    monkeypatch.setattr(Session, "_begin", then_truncate)
    verifying.verify(making.back_up(made.organization), name=made.name)
    assert len(refused) == 1


def test_a_storage_that_is_no_folder_gets_a_file_to_seek_in(
    alpha: Company, folder: Path, settings: Settings
) -> None:
    use(settings, Forgetful)
    run = making.back_up(alpha.organization)
    assert storages["backups"].size(f"{run.folder}/database.dump") == run.bytes
    verifying.verify(run, name=alpha.name)


def test_an_upload_holds_nothing_of_the_database_and_ends_when_asked(
    alpha: Company, folder: Path, settings: Settings, superuser: Superuser
) -> None:
    use(settings, Forgetful)
    held: list[Any] = []
    going = [True]

    def upload() -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND xact_start < now()"
        held.append(superuser.execute(query, (alpha.organization.role_name,)).fetchone())
        going.clear()

    Forgetful.act = staticmethod(upload)
    try:
        with pytest.raises(BackupFailed, match="it was stopped"):
            making.back_up(alpha.organization, goes_on=lambda: bool(going))
    finally:
        Forgetful.act = staticmethod(lambda: None)
    assert held == [(0,)]
    assert the_run(alpha.organization).folder == ""


def test_a_full_disk_fails_the_run_and_leaves_nothing(
    alpha: Company, folder: Path, settings: Settings
) -> None:
    use(settings, Full)
    with pytest.raises(BackupStorageFailed, match="No space left on device") as caught:
        making.back_up(alpha.organization)
    run = the_run(alpha.organization)
    assert (run.state, run.error_code, run.folder) == (State.FAILED, "backup_storage_failed", "")
    assert run.error == str(caught.value)
    assert "secret" not in run.error
    assert files_in(folder) == set()
    assert AuditEntry.objects.filter(act="backup.failed", facts__backup=run.key).exists()


def test_a_locked_table_ends_it_with_a_sentence(
    alpha: Company, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = transfer._AS_NEW.replace("lock_timeout=10s", "lock_timeout=200ms")
    monkeypatch.setattr(transfer, "_AS_NEW", shorter)
    with as_role_of(alpha.organization) as connection:
        connection.execute("BEGIN")
        connection.execute("LOCK TABLE users")
        with pytest.raises(BackupLocked, match="holds a lock on one of its tables"):
            making.back_up(alpha.organization)
    assert the_run(alpha.organization).state == State.FAILED


# What it is called, what makes it, and what takes it back.
OBSTACLES: list[tuple[str, list[str], list[str]]] = [
    (
        "row security",
        [
            "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE users FORCE ROW LEVEL SECURITY",
        ],
        [
            "ALTER TABLE users NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
        ],
    ),
    (
        "no privilege",
        ["REVOKE SELECT ON users FROM CURRENT_USER"],
        ["GRANT SELECT ON users TO CURRENT_USER"],
    ),
    (
        "no privilege",
        ["REVOKE USAGE ON SCHEMA s FROM CURRENT_USER"],
        ["GRANT USAGE ON SCHEMA s TO CURRENT_USER"],
    ),
    (
        "no table",
        ["ALTER TABLE users RENAME TO mine", "CREATE VIEW users AS SELECT * FROM mine"],
        ["DROP VIEW users", "ALTER TABLE mine RENAME TO users"],
    ),
    (
        "no migrations",
        ["ALTER TABLE django_migrations RENAME TO mine"],
        ["ALTER TABLE mine RENAME TO django_migrations"],
    ),
]


def test_what_makes_a_dump_impossible_is_named(
    company: Callable[..., Company], folder: Path
) -> None:
    made = company()
    execute(made, "CREATE SCHEMA s", "CREATE TABLE s.t ()")
    for finding, statements, back in OBSTACLES:
        execute(made, *statements)
        with pytest.raises(BackupObstructed) as caught:
            making.back_up(made.organization)
        execute(made, *back)
        assert caught.value.finding == finding, statements
        run = the_run(made.organization)
        assert f"({finding})" in run.error, statements
        run.delete()
    making.back_up(made.organization)


def test_a_tables_name_is_told_as_postgresql_quotes_it_and_obeyed_by_no_terminal(
    company: Callable[..., Company], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = company()
    execute(
        made,
        "CREATE FUNCTION format(text, name, name) RETURNS text LANGUAGE sql "
        "AS $$ SELECT repeat('their words', 100000) $$",
        'CREATE TABLE "a\x1b[2J" ()',
        'ALTER TABLE "a\x1b[2J" ENABLE ROW LEVEL SECURITY',
        'ALTER TABLE "a\x1b[2J" FORCE ROW LEVEL SECURITY',
    )
    for command, arguments in (("backup_orgs", ()), ("clone_org", ("A Copy",))):
        with pytest.raises(CommandError) as caught:
            call_command(command, made.name, *arguments)
        said = capsys.readouterr().err + str(caught.value)
        assert r'public."a\x1b[2J"' in said, command
        assert "\x1b" not in said
        assert "their words" not in said
    assert files_in(folder) == set()


def test_a_large_object_of_another_role_is_named(
    company: Callable[..., Company], folder: Path, superuser: Superuser
) -> None:
    made = company()
    parameters: Any = SERVER.superuser_parameters(made.organization.database_name)
    with psycopg.connect(**parameters) as connection:
        connection.execute("SELECT lo_create(4711)")
    with pytest.raises(BackupObstructed, match="large object 4711"):
        making.back_up(made.organization)


def test_an_extension_that_only_a_superuser_can_restore_is_named(
    company: Callable[..., Company], folder: Path
) -> None:
    made = company()
    parameters: Any = SERVER.superuser_parameters(made.organization.database_name)
    with psycopg.connect(**parameters) as connection:
        connection.execute("CREATE EXTENSION citext")
    verifying.verify(making.back_up(made.organization), name=made.name)
    with psycopg.connect(**parameters) as connection:
        connection.execute("CREATE EXTENSION pageinspect")
    with pytest.raises(BackupObstructed, match="only a superuser can restore its .* pageinspect"):
        making.back_up(made.organization)


def test_it_does_not_take_the_lock_table_that_all_organizations_share(
    alpha: Company, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_SHARE_OF_LOCKS", 0.0005)
    with pytest.raises(BackupObstructed, match=r"has \d+ tables and indexes; the maximum is \d"):
        making.back_up(alpha.organization)


def test_a_crowded_organization_is_backed_up_later(
    company: Callable[..., Company], folder: Path, superuser: Superuser
) -> None:
    made = company()
    role = made.organization.role_name
    row = superuser.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", (role,))
    (open_now,) = row.fetchone() or (0,)
    assert isinstance(open_now, int)
    # The snapshot gets no connection; then pg_dump gets none.
    for limit in (open_now, open_now + 1):
        statement = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}")
        superuser.execute(statement.format(sql.Identifier(role), sql.Literal(limit)))
        with pytest.raises(OrganizationCrowded):
            making.back_up(made.organization)
    assert set(BackupRun.objects.values_list("error_code", flat=True)) == {"too_busy"}
    assert files_in(folder) == set()


def test_of_two_at_once_one_is_refused(alpha: Company, folder: Path) -> None:
    act = lambda: making.back_up(alpha.organization)  # noqa: E731
    results = together(act, act)
    assert sorted(type(each).__name__ for each in results) == ["BackupRun", "BackupRunning"]
    refused = next(each for each in results if isinstance(each, BackupRunning))
    assert "Try again shortly" in str(refused)
    assert the_run(alpha.organization).state == State.GOOD


def test_a_killed_one_is_ended_by_reconciling_and_by_the_next(
    company: Callable[..., Company], folder: Path, settings: Settings
) -> None:
    made = company()
    fill(made)
    use(settings, Interfering)
    for cleans_up in (
        lifecycle.reconcile_organizations,
        lambda: making.back_up(made.organization),
    ):
        use(settings, Interfering)

        def die_midway() -> None:
            (folder / the_run(made.organization).folder).mkdir(parents=True)
            (folder / the_run(made.organization).folder / "database.dump").write_text("half")
            kill_this_process()

        Interfering.act = staticmethod(die_midway)
        kill_in_a_fork(lambda: making.back_up(made.organization))
        Interfering.act = staticmethod(lambda: None)
        killed = the_run(made.organization)
        assert (killed.state, files_in(folder)) == (State.RUNNING, {"database.dump"})
        half = killed.folder

        cleans_up()
        killed.refresh_from_db()
        assert (killed.state, killed.error_code) == (State.FAILED, "interrupted")
        assert not (folder / half).exists()
        BackupRun.objects.all().delete()


def test_one_killed_after_its_manifest_is_good_and_until_it_can_be_judged_stops_no_other(
    alpha: Company, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be while its manifest is signed by a key that is not listed."""
    monkeypatch.setattr(runs, "succeed", lambda *_, **__: kill_this_process())
    kill_in_a_fork(lambda: making.back_up(alpha.organization))
    monkeypatch.undo()
    killed = the_run(alpha.organization)
    assert killed.state == State.RUNNING
    path = folder / killed.folder / "manifest.json"
    content = path.read_text()
    path.write_text(content.replace('"signature": "', '"signature": "0'))
    making.back_up(alpha.organization)
    outcome = lifecycle.reconcile_organizations()
    assert f"backups of organization {alpha.organization.pk}" in outcome["failed"]
    killed.refresh_from_db()
    assert killed.state == State.RUNNING

    path.write_text(content)
    lifecycle.reconcile_organizations()
    killed.refresh_from_db()
    assert killed.state == State.GOOD
    assert killed.bytes == (folder / killed.folder / "database.dump").stat().st_size
    verifying.verify(killed, name=alpha.name)


def test_reconciling_leaves_a_running_one_alone(
    alpha: Company, folder: Path, settings: Settings
) -> None:
    use(settings, Interfering)
    states: list[str] = []

    def reconcile() -> None:
        lifecycle.reconcile_organizations(wait_seconds=0.1)
        states.append(the_run(alpha.organization).state)

    Interfering.act = staticmethod(reconcile)
    try:
        verifying.verify(making.back_up(alpha.organization), name=alpha.name)
    finally:
        Interfering.act = staticmethod(lambda: None)
    assert states == [State.RUNNING]


def in_another_thread(act: Callable[[Organization], object], row: Organization) -> None:
    """As another process does it."""

    def run() -> None:
        act(row)
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def test_a_deletion_or_suspension_ends_it_and_does_not_wait(
    company: Callable[..., Company],
    folder: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = company()
    fill(made)
    use(settings, Interfering)
    for act in (lifecycle.suspend_organization, lifecycle.delete_organization):
        row = Organization.objects.get(pk=made.organization.pk)
        end = partial(in_another_thread, act, row)
        monkeypatch.setattr(Interfering, "act", staticmethod(end))
        began = time.monotonic()
        with pytest.raises(SessionEnded):
            making.back_up(made.organization)
        assert time.monotonic() - began < 5, act
        run = the_run(row)
        found = (run.state, run.error_code, run.folder)
        assert found == (State.FAILED, "session_ended", ""), act
        assert files_in(folder) == set(), act
        run.delete()
        if act == lifecycle.suspend_organization:
            lifecycle.resume_organization(Organization.objects.get(pk=row.pk))


def test_it_ends_at_its_deadline_and_at_its_size(
    company: Callable[..., Company],
    folder: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = company()
    fill(made)
    settings.BACKUP_MAX_BYTES = 3 * storing.CHUNK_BYTES - 1  # No single chunk is too large.
    with pytest.raises(BackupTooLarge, match=r"database.dump is larger than BACKUP_MAX_BYTES"):
        making.back_up(made.organization)
    settings.BACKUP_MAX_BYTES = 10**9
    settings.BACKUP_DEADLINE_SECONDS = 60
    use(settings, Interfering)
    with monkeypatch.context() as patch:
        clock = Clock(patch, seconds=60)
        # It passes while the storage gets the dump.
        patch.setattr(Interfering, "act", staticmethod(lambda: clock.leave(0)))
        with pytest.raises(BackupTookTooLong, match="after BACKUP_DEADLINE_SECONDS = 60"):
            making.back_up(made.organization)
    with pytest.raises(BackupFailed, match="it was stopped"):
        making.back_up(made.organization, goes_on=lambda: False)
    assert set(BackupRun.objects.values_list("state", "folder")) == {(State.FAILED, "")}
    assert files_in(folder) == set()


def test_settings_of_the_owners_do_not_keep_it_from_being_backed_up(
    company: Callable[..., Company], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = company()
    fill(made)
    begin = Session._begin

    def then_wait(self: Session, tables: list[transfer.Table]) -> tuple[str, int] | None:
        begun = begin(self, tables)
        time.sleep(0.2)
        return begun

    monkeypatch.setattr(Session, "_begin", then_wait)
    hostile = (
        "transaction_timeout = '50ms'",
        "idle_session_timeout = '50ms'",
        "statement_timeout = '50ms'",
        "default_transaction_read_only = on",
        "local_preload_libraries = 'absent'",
        "search_path = nowhere",
        "client_encoding = 'SQL_ASCII'",
        "row_security = off",
    )
    execute(made, *(f"ALTER ROLE CURRENT_USER SET {setting}" for setting in hostile))
    verifying.verify(making.back_up(made.organization), name=made.name)


def test_a_pg_dump_older_than_the_server_is_refused_with_a_sentence(
    alpha: Company, folder: Path, settings: Settings, tmp_path: Path
) -> None:
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)'\n")
    old.chmod(0o755)
    settings.POSTGRES_BIN = str(tmp_path)
    with pytest.raises(ProgramTooOld, match="pg_dump is version 15, and at least 18"):
        making.back_up(alpha.organization)
    assert programs.program("pg_dump") == old


def test_a_program_that_a_server_is_too_old_for_or_that_hangs_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProgramTooNew, match="pg_restore is version 18, .* the server's 16"):
        programs.major_version("pg_restore", server=16)
    hanging = tmp_path / "pg_dump"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    settings.POSTGRES_BIN = str(tmp_path)
    monkeypatch.setattr(programs, "_VERSION_SECONDS", 0.5)
    with pytest.raises(ProgramMissing, match="pg_dump was not found, or does not run"):
        programs.major_version("pg_dump", server=18)
