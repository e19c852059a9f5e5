"""What an export takes at most, and what its organization's database cannot do to it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.db import connections
from pytest_django import Settings

from accounts.models import LoginSession, User
from organizations.errors import ExportFailed
from organizations.exporting import contents
from organizations.exporting.export import export_organization
from organizations.tenancy import guard, pool
from tests.conftest import Company, Superuser
from tests.organizations.deadlines import Clock, note_cancels
from tests.organizations.tenancy.hostile import replaced, run

from .helpers import as_owner, exported, lines, refused

USERS, LOGINS = "accounts.user.jsonl", "accounts.loginsession.jsonl"


@pytest.mark.timeout(60)
def test_an_organization_cannot_make_its_export_endless_or_silently_partial(
    alpha: Company, file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STATEMENT_TIMEOUT_SECONDS = 0.5
    monkeypatch.setattr(guard, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(guard, "CANCEL_SECONDS", 0.3)
    with replaced(alpha, "login_sessions", "SELECT kept.* FROM kept, generate_series(1, 9000000)"):
        assert refused(alpha, file).endswith("login_sessions is no table")
    hidden = (
        *("CREATE POLICY hides ON users USING (false)",),
        *(
            "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE users FORCE ROW LEVEL SECURITY",
        ),
    )
    run(alpha, *hidden)
    try:
        assert "row-level security policy" in refused(alpha, file)
    finally:
        run(alpha, "DROP POLICY hides ON users", "ALTER TABLE users NO FORCE ROW LEVEL SECURITY")
        run(alpha, "ALTER TABLE users DISABLE ROW LEVEL SECURITY")
    with as_owner(alpha) as other:
        other.execute("LOCK TABLE users")
        began = time.monotonic()
        refused(alpha, file)
        assert time.monotonic() - began < 5
    exported(alpha, file)


@contextmanager
def operators_and(company: Company, pinned: dict[str, str]) -> Iterator[None]:
    """The organization's role has operators and these settings of its own inside the block."""
    always = []
    for kind in ("text", "bigint", "uuid", "oid"):
        always += [
            f"CREATE FUNCTION evil.always({kind}, {kind}) RETURNS boolean RETURN true",
            f"CREATE OPERATOR evil.> (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = evil.always)",
            f"CREATE OPERATOR evil.= (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = evil.always)",
        ]
    run(
        company,
        "CREATE SCHEMA evil",
        *always,
        "CREATE TABLE evil.login_sessions (LIKE public.login_sessions)",
        *(f"ALTER ROLE CURRENT_USER SET {name} = {value}" for name, value in pinned.items()),
    )
    pool.shared.close_idle()
    try:
        yield
    finally:
        with as_owner(company) as owner:
            for name in pinned:
                owner.execute(f"ALTER ROLE CURRENT_USER RESET {name}".encode())
            owner.execute("DROP SCHEMA evil CASCADE")
        pool.shared.close_idle()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "pinned",
    [
        {"search_path": "evil, public, pg_catalog"},
        {"search_path": "public, evil, pg_catalog"},
        {"datestyle": "'SQL, DMY'", "extra_float_digits": "-15", "intervalstyle": "sql_standard"},
    ],
)
def test_what_the_owner_set_and_made_changes_nothing_of_what_is_read(
    alpha: Company, sessions: list[LoginSession], file: Path, pinned: dict[str, str]
) -> None:
    before, _ = exported(alpha, file)
    file.unlink()
    with operators_and(alpha, pinned):
        found, _ = exported(alpha, file)
    for name in (USERS, LOGINS):
        assert sorted(found[name].splitlines()) == sorted(before[name].splitlines())
        assert found[name]


def test_a_table_that_a_migration_rewrites_meanwhile_is_not_empty(
    alpha: Company, sessions: list[LoginSession], file: Path, superuser: Superuser
) -> None:
    """Its rows are newer than a snapshot that was taken before it was locked."""
    waiting = "SELECT true FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock'"
    failed: list[BaseException] = []

    def export() -> None:
        try:
            export_organization(alpha.organization, file)
        except BaseException as error:
            failed.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=export)
    try:
        with as_owner(alpha) as migration:
            migration.execute(
                "ALTER TABLE login_sessions ADD new uuid NOT NULL DEFAULT gen_random_uuid()"
            )
            thread.start()
            deadline = time.monotonic() + 4
            while not superuser.execute(waiting, (alpha.organization.role_name,)).fetchone():
                assert time.monotonic() < deadline, failed
                time.sleep(0.02)
        thread.join()
        assert not failed
        with ZipFile(file) as archive:
            assert len(lines(archive.read(LOGINS))) >= len(sessions)
    finally:
        thread.join()
        run(alpha, "ALTER TABLE login_sessions DROP COLUMN IF EXISTS new")


def test_rows_are_read_one_by_one_however_large_they_are_together(
    alpha: Company,
    sessions: list[LoginSession],
    file: Path,
    settings: Settings,
) -> None:
    settings.ORG_MAX_ANSWER_BYTES = 500_000

    def make_large(rows: list[LoginSession], size: int) -> None:
        with as_owner(alpha) as owner:
            update = "UPDATE login_sessions SET kind = repeat('k', %s) WHERE id = ANY(%s)"
            owner.execute(update, (size, [row.pk for row in rows]))

    run(alpha, "ALTER TABLE login_sessions ALTER kind TYPE text")
    try:
        make_large(sessions, 10_000)
        found, _ = exported(alpha, file)
        kinds = [each["kind"] for each in lines(found[LOGINS])]
        assert kinds.count("k" * 10_000) == len(sessions)
        make_large(sessions[:1], 2_000_000)
        said = refused(alpha, file.with_name("second.zip"))
        assert said.endswith("a row is larger than ORG_MAX_ANSWER_BYTES = 500000.")
    finally:
        make_large(sessions, 1)
        run(alpha, "ALTER TABLE login_sessions ALTER kind TYPE varchar(10)")


def test_an_export_ends_at_its_deadline_at_its_size_and_when_it_is_not_wanted(
    alpha: Company,
    sessions: list[LoginSession],
    file: Path,
    settings: Settings,
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.EXPORT_MAX_BYTES = 5_000
    assert refused(alpha, file).endswith("its content is larger than EXPORT_MAX_BYTES = 5000.")
    settings.EXPORT_MAX_BYTES = 5_000_000
    looks = iter(range(20))
    with pytest.raises(ExportFailed, match="it was stopped"):
        export_organization(alpha.organization, file, goes_on=lambda: next(looks) < 19)
    settings.EXPORT_DEADLINE_SECONDS = 100
    with monkeypatch.context() as patch, as_owner(alpha) as other:
        other.execute("LOCK TABLE users")
        clock = Clock(patch, seconds=100)
        cancelled = note_cancels(patch, superuser)
        begin = contents.begin

        def begin_late(**named: Any) -> None:
            clock.leave(1)
            begin(**named)

        patch.setattr(contents, "begin", begin_late)
        assert refused(alpha, file).endswith("longer than EXPORT_DEADLINE_SECONDS = 100.")
        assert cancelled == ["relation"], "it did not wait for the lock"
    assert list(file.parent.iterdir()) == []
    exported(alpha, file)


@pytest.mark.timeout(60)
def test_a_field_that_queries_while_rows_come_is_an_error(
    alpha: Company, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_value", lambda *_: User.objects.count())
    assert "queries the database while the export reads it" in refused(alpha, file)
