"""Which backups are kept, what is removed, and what the nightly job and the check say."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from organizations import lifecycle
from organizations.background import enqueueing, pruning
from organizations.backups import making, retention, storing, verifying
from organizations.checks.backups import check_backups, check_place
from organizations.errors import BackupStorageFailed
from organizations.jobs.retries import Backoff
from organizations.models import BackupRun, Organization
from tests.conftest import Company
from tests.organizations.jobs.helpers import clear, work

from .helpers import files_in

State = BackupRun.State
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)  # A Friday.


@pytest.fixture
def jobs() -> Iterator[None]:
    clear()
    yield
    clear()


def runs_of(company: Company, *days: float, state: State = State.GOOD) -> None:
    """Backups that began so many days ago; nothing of them is stored."""
    for number in days:
        BackupRun.objects.create(
            organization_id=company.organization.pk,
            organization_key=company.organization.key,
            state=state,
            started_at=NOW - timedelta(days=number),
            folder=f"{company.organization.key}/{number}",
        )


def days_left(company: Company) -> list[float]:
    left = BackupRun.objects.filter(organization_key=company.organization.key)
    return [(NOW - run.started_at) / timedelta(days=1) for run in left]


def test_the_newest_of_each_day_week_and_month_is_kept(
    alpha: Company, beta: Company, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    settings.BACKUP_KEEP_DAILY, settings.BACKUP_KEEP_WEEKLY = 3, 2
    settings.BACKUP_KEEP_MONTHLY = 3
    days = (0, 0.25, 1, 2, 3, 5, 6, 12, 20, 30, 40, 58, 70, 100)
    runs_of(alpha, *days)
    runs_of(beta, *days, state=State.BAD)
    assert retention.prune() == []
    # Three days; Sunday of the week before; the newest of November, October and September.
    assert days_left(alpha) == [0, 1, 2, 5, 30, 58]
    assert days_left(beta) == days_left(alpha), "a bad one takes as much room"


def test_the_last_good_and_the_last_verified_one_are_never_removed(
    company: Callable[..., Company],
    folder: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    made = company()
    runs_of(made, 900, 901, 902)
    runs_of(made, 0, 800, state=State.FAILED)
    runs_of(made, 1, state=State.BAD)
    oldest = BackupRun.objects.filter(organization_key=made.organization.key).last()
    assert oldest is not None
    BackupRun.objects.filter(pk=oldest.pk).update(verified_at=NOW)
    retention.prune()
    assert days_left(made) == [0, 1, 900, 902]
    lifecycle.delete_organization(made.organization)
    retention.prune()
    assert days_left(made) == [0, 1, 900, 902], "they outlive it"
    later = NOW + timedelta(days=settings.BACKUP_KEEP_DELETED_DAYS, seconds=1)
    monkeypatch.setattr(timezone, "now", lambda: later)
    retention.prune()
    assert days_left(made) == []


def test_what_is_removed_leaves_no_file_and_a_removal_that_fails_goes_on_later(
    alpha: Company, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (making.back_up(alpha.organization) for _ in range(2))
    BackupRun.objects.filter(pk=old.pk).update(started_at=timezone.now() - timedelta(days=500))
    remove = storing.remove

    def fail(_: str) -> None:
        raise BackupStorageFailed("x", "y")

    monkeypatch.setattr(storing, "remove", fail)
    assert retention.prune() == [f"backups of organization {alpha.organization.pk}"]
    old.refresh_from_db()
    assert old.state == State.REMOVING, "it is no good backup any more"
    assert verifying.newest_good(alpha.organization) == new
    monkeypatch.setattr(storing, "remove", remove)
    pruning.prune()
    assert list(BackupRun.objects.all()) == [new]
    assert files_in(folder) == {"database.dump", "manifest.json"}


@pytest.mark.usefixtures("jobs")
def test_every_night_each_organization_gets_a_job_at_its_own_moment(
    alpha: Company, beta: Company, folder: Path, settings: Settings
) -> None:
    backups = ProcrastinateJob.objects.filter(task_name="back_up_organization")
    enqueueing.platform_job("back_up_nightly")
    work()
    assert not backups.exists(), "it is off by default"
    settings.BACKUP_NIGHTLY = True
    enqueueing.platform_job("back_up_nightly")
    began = timezone.now()
    work()
    assert backups.count() == Organization.objects.reachable().count() >= 2
    moments = {job.args["organization_id"]: job.scheduled_at for job in backups}
    for row in (alpha.organization, beta.organization):
        wanted = began + timedelta(seconds=int(row.key[:8], 16) % 18_000)
        assert abs(moments[row.pk] - wanted) < timedelta(seconds=30)
    assert not any(job.lock for job in backups), "a deletion or a migration does not wait for it"


@pytest.mark.usefixtures("jobs")
def test_a_worker_backs_up_and_verifies_what_a_command_enqueues(
    alpha: Company, folder: Path
) -> None:
    rows = Organization.objects.filter(pk=alpha.organization.pk)
    assert (enqueueing.back_up(rows), enqueueing.back_up(rows)) == (1, 0)
    work()
    run = BackupRun.objects.get()
    assert (run.state, run.verified_at) == (State.GOOD, None)
    assert (enqueueing.verify(rows), enqueueing.verify(rows)) == (1, 0)
    work()
    run.refresh_from_db()
    assert run.verified_at is not None
    assert set(ProcrastinateJob.objects.values_list("status", flat=True)) == {"succeeded"}


@pytest.mark.parametrize("name", ["back_up_organization", "verify_backup"])
def test_a_job_is_tried_again_for_as_long_as_a_storage_or_a_lock_may_take(name: str) -> None:
    retry = app.tasks[name].retry_strategy
    assert isinstance(retry, Backoff)
    job = app.tasks[name].configure(task_kwargs={}).job
    waited = timedelta()
    while True:
        now = timezone.now()
        error = BackupStorageFailed("x", "y")
        decision = retry.get_retry_decision(exception=error, job=job)
        if decision is None:
            break
        assert decision.retry_at is not None
        waited += decision.retry_at - now
        job = job.evolve(attempts=job.attempts + 1)
    assert timedelta(hours=1) <= waited <= timedelta(hours=3)


def test_an_organization_without_a_recent_good_backup_is_warned_about(
    alpha: Company, folder: Path, settings: Settings
) -> None:
    def said() -> list[Any]:
        return [message.id for message in check_backups(databases=["default"])]

    rows = Organization.objects.filter(pk=alpha.organization.pk)
    created = alpha.organization.created_at
    try:
        rows.update(created_at=timezone.now() - timedelta(days=5))
        assert said() == [], "backups are off"
        settings.BACKUP_NIGHTLY = True
        assert said() == ["organizations.W081"]
        making.back_up(alpha.organization)
        assert said() == []
        BackupRun.objects.update(state=State.BAD)
        assert said() == ["organizations.W081"]
    finally:
        rows.update(created_at=created)


def test_a_wrong_place_and_a_missing_program_are_told(folder: Path, settings: Settings) -> None:
    settings.BACKUP_NIGHTLY = True
    assert list(check_place()) == []
    settings.MEDIA_ROOT = folder.parent
    settings.POSTGRES_BIN = str(folder)
    found = [message.id for message in check_place()]
    assert found == ["organizations.W082", "organizations.E080"]
    settings.BACKUP_NIGHTLY, settings.BACKUP_BEFORE_DROP = False, True
    assert [message.id for message in check_place()] == found
    settings.BACKUP_BEFORE_DROP = False
    settings.BACKUP_NIGHTLY = False
    assert [message.id for message in check_place()] == ["organizations.E080"]
