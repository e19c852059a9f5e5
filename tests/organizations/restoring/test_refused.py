"""Refused backups and dumps change nothing; a hostile owner's code in one does no harm."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from organizations import lifecycle
from organizations.backups import making as backups
from organizations.backups import storing
from organizations.errors import (
    BackupForeign,
    BackupNotFound,
    BackupTookTooLong,
    NothingToUndo,
    RestoreFailed,
    WrongState,
)
from organizations.models import AuditEntry, Restore, SpareDatabase
from organizations.postgres import programs, transfer
from organizations.restoring.comparing import Changes
from organizations.secrets import unseal
from organizations.tenancy import guard
from tests.conftest import Company, Superuser
from tests.organizations.backups.helpers import SETTLE, assert_nothing_is_settled, execute, fill
from tests.organizations.backups.test_verifying import _HARM, _SLEEP, _TRIGGER, each_fault
from tests.organizations.deadlines import Clock

from .helpers import add, contents, emails, execute_as_superuser, row_of, the_restore, write_file

State = Restore.State


def assert_unchanged(company: Company, superuser: Superuser) -> None:
    before = company.organization
    assert row_of(company).place == before.place
    assert emails(company) == [company.email, "late@test.com"]
    assert not SpareDatabase.objects.filter(fingerprint="").exists()
    assert the_restore(company).state == State.FAILED


def noting(told: list[str]) -> Callable[[Changes], bool]:
    """Agrees, and notes why it is unknown who goes back."""

    def agreed(changes: Changes) -> bool:
        told.append(changes.unknown)
        return True

    return agreed


def dump(company: Company, path: Path, *more: str) -> Path:
    """As an operator makes one from a server at another point in time."""
    row = company.organization
    where = transfer.parameters(
        row.database_name, row.role_name, unseal(row.sealed_password, owner=row.name)
    )
    with open(path, "wb") as file:
        subprocess.run(  # noqa: S603 - PostgreSQL's own program
            [*transfer.dump_command(), *more, f"--dbname={programs.SERVICE_NAME}"],
            env=programs._environment(where, None),
            stdout=file,
            check=True,
        )
    return path


def test_a_backup_that_is_not_what_it_should_be_changes_nothing(
    made: Company, folder: Path, superuser: Superuser
) -> None:
    run = backups.back_up(made.organization)
    add(made, "late@test.com")
    entries = AuditEntry.objects.filter(
        act="organization.restore_failed", organization_id=made.organization.pk
    )
    codes: list[str] = []
    for fault, kind, sentence in each_fault(run, folder):
        with pytest.raises(kind, match=sentence):
            lifecycle.restore_organization(row_of(made))
        assert_unchanged(made, superuser)
        assert the_restore(made).error_code == kind.code, fault
        codes.append(kind.code)
        assert [each.facts["error"] for each in entries.order_by("id")] == codes
        Restore.objects.all().delete()


def test_a_backup_of_another_organization_changes_nothing(
    made: Company, beta: Company, folder: Path, superuser: Superuser
) -> None:
    mine, betas = backups.back_up(made.organization), backups.back_up(beta.organization)
    add(made, "late@test.com")
    shutil.rmtree(folder / mine.folder)
    shutil.copytree(folder / betas.folder, folder / mine.folder)
    with pytest.raises(BackupForeign, match="it belongs to another organization"):
        lifecycle.restore_organization(row_of(made))
    assert_unchanged(made, superuser)


def test_a_backup_of_newer_code_changes_nothing(
    made: Company, folder: Path, superuser: Superuser
) -> None:
    execute(
        made,
        "INSERT INTO django_migrations (app, name, applied) "
        "VALUES ('accounts', '9999_future', now())",
    )
    backups.back_up(made.organization)
    execute(made, "DELETE FROM django_migrations WHERE name = '9999_future'")
    add(made, "late@test.com")
    with pytest.raises(RestoreFailed, match="it has migrations that this code does not know"):
        lifecycle.restore_organization(row_of(made))
    assert_unchanged(made, superuser)


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "the file cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "not a dump by pg_dump --format=custom"),
    "of SQL": (lambda path: path.write_text("DROP TABLE users;"), "not a dump by pg_dump"),
    "cut short": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "pg_restore ended with an error",
    ),
    "of a newer pg_dump": (
        # After PGDMP come its version's parts.
        lambda path: path.write_bytes(b"PGDMP\x09\x00" + path.read_bytes()[7:]),
        "pg_restore ended with an error",
    ),
}


def test_a_file_that_is_no_whole_dump_changes_nothing(
    made: Company, folder: Path, superuser: Superuser, tmp_path: Path
) -> None:
    path = dump(made, tmp_path / "dump")
    whole = path.read_bytes()
    add(made, "late@test.com")
    for change, sentence in FILES.values():
        path.write_bytes(whole)
        change(path)
        with pytest.raises(RestoreFailed, match=sentence):
            lifecycle.restore_organization(row_of(made), file=path)
        assert_unchanged(made, superuser)
        Restore.objects.all().delete()
    of_another_application = dump(made, tmp_path / "other", "--table=users")
    with pytest.raises(RestoreFailed):
        lifecycle.restore_organization(row_of(made), file=of_another_application)
    assert_unchanged(made, superuser)


def test_a_dump_that_an_operator_made_takes_the_place_and_the_files_stay(
    made: Company, folder: Path, tmp_path: Path
) -> None:
    fill(made)
    path = dump(made, tmp_path / "dump")
    assert path.stat().st_size > 3 * storing.CHUNK_BYTES, "it is read as one chunk"
    add(made, "late@test.com")
    write_file(made, "plan.txt", "now")
    restore = lifecycle.restore_organization(row_of(made), file=path)
    assert (restore.state, restore.backup, restore.backed_up_at) == (State.DONE, "", None)
    assert emails(made) == [made.email]
    assert contents(made.organization.key) == {"plan.txt": "now"}
    lifecycle.undo_restore(row_of(made))
    assert emails(made) == [made.email, "late@test.com"]
    assert contents(made.organization.key) == {"plan.txt": "now"}


def test_what_cannot_be_restored_says_why(made: Company, folder: Path) -> None:
    with pytest.raises(BackupNotFound, match="There is no good backup"):
        lifecycle.restore_organization(row_of(made))
    with pytest.raises(NothingToUndo, match="can be undone"):
        lifecycle.undo_restore(row_of(made))
    for fault in (lifecycle.restore_organization, lifecycle.undo_restore):
        organization = row_of(made)
        type(organization).objects.filter(pk=organization.pk).update(status="failed")
        try:
            with pytest.raises(WrongState, match="it must be active or suspended"):
                fault(organization)
        finally:
            type(organization).objects.filter(pk=organization.pk).update(status="active")


# --- A hostile owner's code -----------------------------------------------------------------------
def test_the_code_in_a_dump_harms_nobody_and_keeps_no_way_in(
    made: Company, beta: Company, folder: Path, superuser: Superuser
) -> None:
    own, guest = made.organization.database_name, beta.organization.role_name
    execute(
        made,
        _HARM,
        _TRIGGER,
        SETTLE.format(own=own, guest=guest),
        "CREATE TABLE trap (n int DEFAULT 1, CHECK (harm()))",
        "CREATE TRIGGER harms BEFORE INSERT ON trap FOR EACH ROW "
        "EXECUTE FUNCTION harm_by_trigger()",
        "ALTER TABLE trap ENABLE ALWAYS TRIGGER harms",
        "INSERT INTO trap DEFAULT VALUES",
        "CREATE TABLE settled (n int, CHECK (settle()))",
        "INSERT INTO settled VALUES (1)",
        "CREATE TRIGGER harms BEFORE UPDATE ON users FOR EACH ROW "
        "EXECUTE FUNCTION harm_by_trigger()",
        "CREATE MATERIALIZED VIEW seen AS SELECT harm()",
    )
    supers = "SELECT array_agg(rolname ORDER BY 1) FROM pg_roles WHERE rolsuper"
    before = superuser.execute(supers).fetchone()
    backups.back_up(made.organization)
    lifecycle.restore_organization(row_of(made))
    assert superuser.execute(supers).fetchone() == before
    assert not Path("/tmp/harmed").exists()  # noqa: S108
    row = row_of(made)
    query = "SELECT FROM pg_roles WHERE rolname = 'harmed'"
    assert superuser.execute(query).fetchone() is None
    assert_nothing_is_settled(superuser, row, beta.organization)
    assert emails(made) == [made.email]


_KEEP = """
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TABLE before AS SELECT * FROM login_sessions;
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO login_sessions SELECT * FROM before; RETURN NULL; END $$;
"""
# It leads the next statements to other tables of these names.
_DECOY = """
CREATE SCHEMA decoy;
CREATE TABLE decoy.users AS TABLE users;
CREATE TABLE decoy.login_sessions AS TABLE login_sessions WITH NO DATA;
CREATE FUNCTION decoy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('search_path', 'decoy, public', false); RETURN NULL; END $$;
"""
KEPT = {
    "log-ins": "CREATE TRIGGER keeps BEFORE DELETE ON login_sessions FOR EACH ROW "
    "EXECUTE FUNCTION keep()",
    "log-ins, at the commit": "CREATE CONSTRAINT TRIGGER keeps AFTER DELETE ON login_sessions "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION again()",
    "log-ins, by a decoy": f"{_DECOY}CREATE TRIGGER keeps BEFORE DELETE ON login_sessions "
    "FOR EACH ROW EXECUTE FUNCTION decoy()",
    "links": "CREATE TRIGGER keeps BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION keep()",
}


@pytest.mark.parametrize("what", KEPT)
def test_a_trigger_that_keeps_log_ins_or_links_alive_stops_the_restore(
    made: Company, folder: Path, superuser: Superuser, client: Any, what: str
) -> None:
    made.token(client)
    execute(made, _KEEP, KEPT[what])
    backups.back_up(made.organization)
    add(made, "late@test.com")
    with pytest.raises(RestoreFailed, match="code in its database keeps them"):
        lifecycle.restore_organization(row_of(made))
    assert_unchanged(made, superuser)


@pytest.mark.timeout(60)
def test_a_constraint_that_sleeps_is_ended_at_the_deadline_and_the_old_one_serves_on(
    made: Company,
    folder: Path,
    settings: Settings,
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleep = _SLEEP.replace("LIKE 'orgmgmt%'", f"<> '{made.organization.database_name}'")
    execute(made, sleep, "CREATE TABLE t (n int, CHECK (sleep()))", "INSERT INTO t VALUES (1)")
    backups.back_up(made.organization)
    add(made, "late@test.com")
    clock = Clock(monkeypatch, settings.BACKUP_DEADLINE_SECONDS)
    with pytest.raises(BackupTookTooLong, match="The restore of .* was stopped"):
        lifecycle.restore_organization(row_of(made), goes_on=clock.until_asleep(superuser))
    assert_unchanged(made, superuser)
    sleeping = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    assert superuser.execute(sleeping).fetchone() is None


def test_a_users_table_that_never_ends_only_hides_who_goes_back(
    made: Company, folder: Path
) -> None:
    """What serves now may be the reason for the restore."""
    backups.back_up(made.organization)
    execute(
        made,
        "ALTER TABLE users RENAME TO hidden",
        "CREATE VIEW users AS SELECT n::bigint AS id, n::text AS email, '' AS hashed_password, "
        "true AS is_admin, pg_sleep(60) IS NULL AS is_active FROM generate_series(1, 9) AS n",
    )
    told: list[str] = []
    with guard.time_limit(0.7):
        lifecycle.restore_organization(row_of(made), confirm=noting(told))
    assert told == ["its users cannot be read (QueryCanceled)"] or "DeadlinePassed" in told[0]
    assert emails(made) == [made.email]


def test_what_its_users_became_is_told_in_short_text_and_hinders_nothing(
    made: Company, folder: Path
) -> None:
    backups.back_up(made.organization)
    execute(
        made,
        "ALTER TABLE users ALTER email TYPE jsonb USING to_jsonb(repeat('x', 1000000))",
        "SELECT setval(pg_get_serial_sequence('users', 'id'), 9223372036854775807)",
    )
    told: list[Changes] = []
    lifecycle.restore_organization(
        row_of(made),
        confirm=lambda changes: not told.append(changes),  # type: ignore[func-returns-value]
    )
    assert [len(user.email) for user in told[0].users] == [254]
    assert emails(made) == [made.email]
    assert add(made, "ada@test.com").pk < 2 * 10**9


def test_a_database_that_is_lost_comes_back(
    made: Company, folder: Path, superuser: Superuser
) -> None:
    backups.back_up(made.organization)
    execute_as_superuser(superuser, "DROP DATABASE {} WITH (FORCE)", row_of(made).database_name)
    told: list[str] = []
    restore = lifecycle.restore_organization(row_of(made), confirm=noting(told))
    assert told == ["there is no database"]
    assert (restore.state, emails(made)) == (State.DONE, [made.email])
    with pytest.raises(NothingToUndo):
        lifecycle.undo_restore(row_of(made))
    assert emails(made) == [made.email]
