"""`migrate_orgs --enqueue`, and the workers that run it."""

from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from organizations.background import migrating
from organizations.jobs.models import JobProgress
from organizations.naming import name_key
from organizations.postgres.sessions import open_session
from organizations.provisioning import code
from tests.organizations.jobs.helpers import clear, work

from .added import ADD_FIELD, STRICT_ADDRESSES
from .conftest import REAL, Add, Fleet
from .test_fleet import BAD, GOOD, ask


@pytest.fixture(autouse=True)
def _no_jobs(settings: Settings) -> Iterator[None]:
    settings.ORG_SPARE_DATABASES = 0
    settings.JOB_TRIES = 1
    migrating._engine.cache_clear()
    clear()
    yield
    migrating._engine.cache_clear()
    clear()


def enqueue(fleet: Fleet, *words: str) -> str:
    out = StringIO()
    names = [organization.name for organization in fleet.rows]
    call_command("migrate_orgs", *names, *words, "--enqueue", stdout=out)
    return out.getvalue().strip()


def test_the_workers_migrate_all_to_the_code_and_back(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    assert enqueue(four) == "4 jobs enqueued."
    assert enqueue(four) == "0 jobs enqueued.", "each waits already"
    work()
    assert {row.fingerprint for row in four.rows} == {code.current().fingerprint}
    assert enqueue(four) == "0 jobs enqueued.", "none is outdated"

    assert enqueue(four, "accounts", REAL, "--yes") == "4 jobs enqueued."
    work()
    assert code.current().fingerprint not in {row.fingerprint for row in four.rows}


def test_a_job_that_fails_says_why_and_leaves_the_others_alone(four: Fleet, add: Add) -> None:
    add(strict=STRICT_ADDRESSES)
    ask(four.rows[1], BAD)
    try:
        enqueue(four)
        work()
        outdated = [row for row in four.rows if row.fingerprint != code.current().fingerprint]
        assert [row.pk for row in outdated] == [four.rows[1].pk]
        assert "CheckViolation" in outdated[0].migration_error
        progress = JobProgress.objects.get(organization_id=outdated[0].pk)
        assert progress.error.startswith("migration_failed: The database of ")
        assert "CheckViolation" in progress.error
    finally:
        ask(four.rows[1], GOOD)


def test_a_worker_with_other_code_leaves_the_job_to_the_others(
    four: Fleet, add: Add, settings: Settings
) -> None:
    add(note=ADD_FIELD)
    enqueue(four)
    before = {row.fingerprint for row in four.rows}
    newer, settings.MIGRATION_MODULES = settings.MIGRATION_MODULES, {}
    work()
    assert {each.error.split(":")[0] for each in JobProgress.objects.all()} == {"other_code"}
    assert {row.fingerprint for row in four.rows} == before
    settings.MIGRATION_MODULES = newer


def test_one_that_another_process_works_on_is_retried(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    busy = four.rows[0]
    enqueue(four)
    with open_session() as session:
        assert session.try_lock(name_key(busy.name))
        work()
        session.unlock(name_key(busy.name))
    progress = JobProgress.objects.get(organization_id=busy.pk)
    assert progress.error.startswith("organization_busy: ")


def test_what_is_about_a_run_does_not_go_with_jobs(four: Fleet) -> None:
    for flag in ("--canary=1", "--max-failures=1", "--parallel=2", "--verify"):
        with pytest.raises(CommandError, match="--enqueue cannot be combined"):
            enqueue(four, flag)
