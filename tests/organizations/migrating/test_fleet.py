"""Migrating many organizations to one target."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from organizations import lifecycle
from organizations.errors import MigrationUnknown
from organizations.migrating import crew, fleet, records, turn
from organizations.migrating.engine import Engine, Target
from organizations.migrating.results import Kind, Progress, Report, Result, Stopped
from organizations.models import Organization, SchemaVersion
from organizations.naming import name_key
from organizations.postgres.sessions import ServerSession, open_session
from organizations.provisioning import code
from tests.organizations.helpers import Superuser, as_role_of, together, wait_for

from .added import ADD_FIELD, STRICT_ADDRESSES
from .conftest import REAL, Add, Fleet

BAD = "UPDATE users SET email = 'bad data'"
GOOD = "UPDATE users SET email = 'admin@fleet.example'"


def ask(organization: Organization, query: str) -> Any:
    with as_role_of(organization) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else None


def times_applied(organization: Organization, name: str) -> Any:
    query = f"SELECT count(*) FROM django_migrations WHERE name = '{name}'"  # noqa: S608
    return ask(organization, query)[0][0]


def columns(organization: Organization) -> set[str]:
    found = ask(
        organization,
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'users'",
    )
    return {name for (name,) in found}


# --- Everybody -----------------------------------------------------------------------------------
def test_all_are_migrated_to_the_code_and_the_master_knows(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    lifecycle.suspend_organization(four.rows[0])
    try:
        report = four.run(parallel=2)
    finally:
        lifecycle.resume_organization(four.rows[0])

    assert report.counts == {Kind.MIGRATED: 4}, "one of them is suspended"
    now = code.current().fingerprint
    for organization in four.rows:
        assert "note" in columns(organization)
        assert organization.fingerprint == now
        assert organization.migration_attempts == 0
        assert organization.migrated_at is not None
        assert (organization.migration_seconds or 0) > 0
    assert "accounts.0004_note" in SchemaVersion.objects.get(pk=now).migrations


def test_nothing_to_do_is_one_query(four: Fleet) -> None:
    with CaptureQueriesContext(connections["default"]) as asked:
        report = four.run()
    assert len(asked) == 1, asked.captured_queries
    assert (report.considered, report.in_step_before) == (0, 4)


def test_an_organization_that_signs_up_during_the_run_is_migrated_too(
    four: Fleet, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(note=ADD_FIELD)
    late = four.query.filter(pk=four.rows[3].pk)
    late.update(fingerprint=code.current().fingerprint)  # Not counted when the run begins.
    before = four.rows[0].fingerprint
    seen = []

    def sign_up(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 1:
            late.update(fingerprint=before)

    monkeypatch.setattr(fleet, "_PAGE", 1)
    report = fleet.run(four.query, fleet.Options(parallel=1), on_progress=sign_up)
    assert (report.counts, report.not_tried) == ({Kind.MIGRATED: 4}, 0)
    assert (seen[-1].done, seen[-1].total) == (4, 4)


def test_an_unknown_target_is_reported_before_anything_is_done(four: Fleet) -> None:
    with pytest.raises(MigrationUnknown, match="no one migration '0999' of 'accounts'"):
        four.run(target=Target("accounts", "0999"))


# --- Failures ------------------------------------------------------------------------------------
def test_one_that_fails_stays_where_it_was_and_the_others_are_done(
    four: Fleet, add: Add, caplog: pytest.LogCaptureFixture
) -> None:
    before = four.rows[2].fingerprint
    ask(four.rows[2], BAD)
    add(strict=STRICT_ADDRESSES)
    report = four.run()

    assert report.counts == {Kind.MIGRATED: 3, Kind.FAILED: 1}
    (failed,) = report.failed
    assert failed.name == four.rows[2].name
    row = four.rows[2]
    assert (row.fingerprint, row.migration_attempts) == (before, 1)
    assert row.migration_error == failed.error
    assert failed.error.startswith("CheckViolation: check constraint")
    assert "bad data" not in failed.error, "a value of the organization's"
    (logged,) = [each for each in caplog.records if each.message == "organization not migrated"]
    assert logged.levelname == "ERROR"
    assert "in send" in caplog.text, "where it happened"
    assert f"psycopg.errors.{failed.error}" in caplog.text
    assert "bad data" not in caplog.text

    # A look at it does not make it good. --retry-failed tries that one alone.
    four.run(verify=True)
    assert four.rows[2].migration_error == failed.error
    four.query.filter(pk=four.rows[0].pk).update(fingerprint="")
    assert four.run(retry_failed=True).considered == 1
    assert four.rows[2].migration_attempts == 2
    ask(four.rows[2], GOOD)
    assert four.run(retry_failed=True).counts == {Kind.MIGRATED: 1}
    assert (four.rows[2].migration_attempts, four.rows[2].migration_error) == (0, "")


def test_migrations_before_a_failure_are_recorded_and_can_be_unapplied(
    four: Fleet, add: Add
) -> None:
    before = four.rows[0].fingerprint
    ask(four.rows[0], BAD)
    add(note=ADD_FIELD, strict=STRICT_ADDRESSES)
    four.run()
    row = four.rows[0]
    assert "accounts.0004_note" in SchemaVersion.objects.get(pk=row.fingerprint).migrations
    assert four.run(target=Target("accounts", REAL)).counts == {Kind.MIGRATED: 4}
    assert {each.fingerprint for each in four.rows} == {before}
    ask(four.rows[0], GOOD)


def test_an_organization_whose_migration_was_killed_is_always_checked(
    four: Fleet, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(note=ADD_FIELD)
    before = four.rows[1].fingerprint
    with monkeypatch.context() as patch:  # As a kill between the database's commit and the record.
        patch.setattr(records, "end", lambda session, result, looks_only: None)
        four.run()
    assert (four.rows[1].fingerprint, four.rows[1].migration_attempts) == (before, 1)
    four.query.exclude(pk=four.rows[1].pk).update(migration_attempts=0)
    report = four.run(target=Target("accounts", REAL))
    assert report.counts == {Kind.MIGRATED: 1}
    assert "note" not in columns(four.rows[1])
    four.query.update(migration_attempts=1)  # For the fixture: the other three are ahead.


def test_databases_ahead_of_the_code_need_one_query_for_all(
    four: Fleet, add: Add, settings: Settings
) -> None:
    add(note=ADD_FIELD)
    four.run()
    newer, settings.MIGRATION_MODULES = settings.MIGRATION_MODULES, {}
    asked = []
    options = fleet.Options(parallel=1)
    report = fleet.run(four.query, options, on_progress=lambda step: asked.append(step.latest))
    assert report.counts == {Kind.IN_STEP: 4}
    assert len([result for result in asked if result]) < 4
    assert four.run(verify=True).counts == {Kind.CONFIRMED: 4}
    settings.MIGRATION_MODULES = newer
    assert four.run().considered == 0, "the newer code's record was kept"


def test_a_lost_session_with_the_master_skips_no_organization(
    four: Fleet, add: Add, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(note=ADD_FIELD)
    cut: list[int] = []

    def cut_once(session: ServerSession, *arguments: Any, **options: Any) -> Result:
        if not cut:
            cut.append(session.connection.info.backend_pid)
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", cut)
        return turn.take(session, *arguments, **options)

    monkeypatch.setattr(crew, "take", cut_once)
    assert four.run(parallel=1).counts == {Kind.MIGRATED: 4}


def test_a_value_that_postgresql_quotes_does_not_reach_the_master() -> None:
    with open_session() as session:
        try:
            session.value("SELECT 'a \"secret\" of ours'::int")
        except psycopg.Error as error:
            said = turn.explain(error)
    assert said == 'InvalidTextRepresentation: invalid input syntax for type integer: "…"'


def test_a_row_that_postgresql_shows_is_not_logged(
    four: Fleet, add: Add, caplog: pytest.LogCaptureFixture
) -> None:
    add(nobody="migrations.RunSQL('UPDATE users SET is_admin = NULL')")
    failed = four.run().failed[0]
    assert failed.error.startswith("NotNullViolation: null value in column")
    assert failed.error in caplog.text
    assert "admin@fleet.example" not in caplog.text + failed.error


def test_a_budget_of_failures_stops_the_run(four: Fleet, add: Add) -> None:
    for organization in four.rows:
        ask(organization, BAD)
    add(strict=STRICT_ADDRESSES)
    try:
        report = four.run(parallel=1, max_failures=1)
        assert report.stopped == Stopped.TOO_MANY_FAILURES
        assert report.failures + report.not_tried == 4
        assert report.not_tried > 0
    finally:
        for organization in four.rows:
            ask(organization, GOOD)


def test_canaries_that_fail_keep_the_migration_from_the_others(four: Fleet, add: Add) -> None:
    ask(four.rows[0], BAD)
    add(strict=STRICT_ADDRESSES)
    try:
        report = four.run(canary=fleet.Canary(number=1), goes_on=pytest.fail)
        assert report.stopped == Stopped.CANARY_FAILED
        assert (report.failures, report.not_tried) == (1, 3)
    finally:
        ask(four.rows[0], GOOD)


def test_the_others_wait_after_the_canaries_until_somebody_says_yes(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    report = four.run(canary=fleet.Canary(percent=50), goes_on=lambda report: False)
    assert report.stopped == Stopped.CANARY_WAITS
    assert (report.counts, report.not_tried) == ({Kind.MIGRATED: 2}, 2)
    assert four.run(canary=fleet.Canary(number=1)).counts == {Kind.MIGRATED: 2}


def test_a_share_of_canaries_is_rounded_up() -> None:
    for canary, total, count in (
        (fleet.Canary(percent=5), 1000, 50),
        (fleet.Canary(percent=5), 30, 2),
        (fleet.Canary(percent=1), 4, 1),
        (fleet.Canary(number=3), 2, 2),
    ):
        assert canary.of(total) == count


# --- Others at work, and stopping ----------------------------------------------------------------
def test_one_that_another_process_works_on_is_skipped(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    with open_session() as session:
        assert session.try_lock(name_key(four.rows[1].name))
        report = four.run()
    assert report.counts == {Kind.MIGRATED: 3, Kind.BUSY: 1}
    assert "note" not in columns(four.rows[1])


def test_the_lock_is_held_until_the_record_is_written(four: Fleet, superuser: Superuser) -> None:
    row = four.rows[0]
    done = replace(Result.of(row, Kind.MIGRATED), fingerprint=row.fingerprint)

    def end() -> None:
        try:
            records.end(session, done, looks_only=False)
        finally:
            connections.close_all()

    with open_session() as session, ThreadPoolExecutor(1) as pool:
        assert session.try_lock(name_key(row.name))
        with transaction.atomic(using="default"):
            four.query.select_for_update().get(pk=row.pk)
            ended = pool.submit(end)
            wait_for(
                superuser,
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND query LIKE '%%UPDATE organizations SET fingerprint%%'",
            )
            with open_session(new=True) as other:
                assert not other.try_lock(name_key(row.name)), "its record is yet to come"
        ended.result(timeout=20)
        with open_session(new=True) as other:
            assert other.try_lock(name_key(row.name))


def test_two_runners_at_once_do_each_one_once_and_both_end_well(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    reports = together(lambda: four.run(parallel=2), lambda: four.run(parallel=2))
    for report in reports:
        assert isinstance(report, Report), report
        assert not report.failures
    assert sum(report.counts[Kind.MIGRATED] for report in reports) == 4  # type: ignore[attr-defined]
    assert [times_applied(each, "0004_note") for each in four.rows] == [1] * 4


def test_an_organization_that_was_deleted_meanwhile_is_left_alone(four: Fleet) -> None:
    stale = four.rows[0]
    row = Organization.objects.filter(pk=stale.pk)
    row.update(status=Organization.Status.DELETING)
    try:
        assert fleet.migrate_one(stale, Engine()).kind == Kind.GONE
    finally:
        row.update(status=Organization.Status.ACTIVE)


def test_an_interrupted_run_finishes_what_runs_and_can_continue(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    seen: list[object] = []
    report = fleet.run(
        four.query,
        fleet.Options(parallel=1, is_interrupted=lambda: len(seen) > 0),
        on_progress=lambda progress: seen.append(progress) if progress.latest else None,
    )
    assert report.stopped == Stopped.INTERRUPTED
    done = report.counts[Kind.MIGRATED]
    assert 1 <= done < 4
    now = code.current().fingerprint
    assert four.query.filter(fingerprint=now).count() == done, "what was done is recorded"
    assert four.run().counts == {Kind.MIGRATED: 4 - done}


def test_no_more_organizations_are_read_than_are_worked_on(four: Fleet) -> None:
    read = 0

    def endless() -> Iterator[Organization]:
        nonlocal read
        while True:
            read += 1
            yield four.organizations[0]

    team = crew.Crew(Engine(), parallel=2, looks_only=True)
    results = team.results(endless())
    for ended in range(1, 10):
        result: Result | None = None
        while result is None:
            result = next(results)
        assert read - ended <= 4
    results.close()  # type: ignore[attr-defined]


# --- Back, and looking ---------------------------------------------------------------------------
def test_a_rollback_goes_the_same_way(four: Fleet, add: Add) -> None:
    before = four.rows[0].fingerprint
    add(note=ADD_FIELD)
    four.run()
    report = four.run(target=Target("accounts", "0003"))
    assert report.counts == {Kind.MIGRATED: 4}
    for organization in four.rows:
        assert "note" not in columns(organization)
        assert organization.fingerprint == before
    assert four.run(target=Target("accounts", REAL)).considered == 0


def test_verify_asks_the_databases_and_corrects_the_record_alone(four: Fleet, add: Add) -> None:
    true = four.rows[0].fingerprint
    add(note=ADD_FIELD)
    four.query.filter(pk=four.rows[0].pk).update(fingerprint=code.current().fingerprint)
    assert four.run(verify=True).counts == {Kind.CORRECTED: 1, Kind.CONFIRMED: 3}
    assert {each.fingerprint for each in four.rows} == {true}
    assert "note" not in columns(four.rows[0])
