"""Scheduled verification: which organizations are due, and who is told of a failure."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from organizations.background import enqueueing, mails
from organizations.backups import due, making, verifying
from organizations.checks.backups import check_verified
from organizations.errors import BackupDamaged, BackupKeyMissing
from organizations.jobs import alarms
from organizations.models import BackupRun, Organization
from tests.conftest import Company
from tests.organizations.jobs.helpers import clear, work

from .test_encryption import new_key
from .test_findings import findings

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture(autouse=True)
def nightly(folder: Path, settings: Settings) -> Iterator[None]:
    settings.BACKUP_NIGHTLY = True
    settings.ADMINS = [("", "ops@platform.test")]
    clear()
    yield
    clear()


def a_run(company: Company, *, days: int, **facts: Any) -> BackupRun:
    """A good backup that was begun so many days ago."""
    row = company.organization
    return BackupRun.objects.create(
        organization_id=row.pk,
        organization_key=row.key,
        state=BackupRun.State.GOOD,
        started_at=timezone.now() - days * DAY,
        **facts,
    )


def test_each_has_its_turn_and_one_that_fails_keeps_no_other_waiting(
    alpha: Company, beta: Company
) -> None:
    """A thirtieth of these few organizations is one. What was verified in the morning
    of a month ago is due the night before."""
    first, second = alpha.organization.pk, beta.organization.pk
    assert due.tonight() == [], "neither has a backup"
    a_run(beta, days=45, verified_at=timezone.now() - 30 * DAY + 5 * HOUR)
    a_run(beta, days=0)
    assert due.tonight() == [second]
    never = a_run(alpha, days=0)
    assert due.tonight() == [first], "it was never verified"
    BackupRun.objects.filter(pk=never.pk).update(error_code="backup_took_too_long")
    a_run(alpha, days=0)
    assert due.tonight() == [second], "the other's last try is longer ago"
    BackupRun.objects.filter(organization_id=second, verified_at=None).update(
        verified_at=timezone.now()
    )
    a_run(beta, days=-1)
    assert due.tonight() == [first], "one that was verified lately waits"


def test_they_are_enqueued_at_their_own_moments_after_the_backups(
    alpha: Company, settings: Settings
) -> None:
    a_run(alpha, days=0)
    jobs = ProcrastinateJob.objects.filter(task_name="verify_backup")
    settings.BACKUP_VERIFY_DAYS = 0
    enqueueing.platform_job("verify_nightly")
    work()
    assert not jobs.exists()
    settings.BACKUP_VERIFY_DAYS = 30
    enqueueing.platform_job("verify_nightly")
    work()
    (job,) = jobs
    moment = timedelta(seconds=int(alpha.organization.key[:8], 16) % (5 * 3_600))
    assert abs(job.scheduled_at - timezone.now() - moment) < timedelta(minutes=1)
    assert job.args == {"organization_id": alpha.organization.pk}


def test_a_bad_backup_is_mailed_once_and_at_once(alpha: Company, folder: Path) -> None:
    """Also if a mail about another fault of it waits."""
    row = alpha.organization
    run = making.back_up(row)
    alarms.order(run.key, seconds=10_000)
    (folder / run.folder / "database.dump").write_bytes(b"PGDMP")
    for _ in range(2):
        with pytest.raises(BackupDamaged):
            verifying.verify(run, name=row.name)
        work()
    assert len(mail.outbox) == 1
    mails.alarm(run.key, is_late=True)
    (sent,) = mail.outbox
    assert sent.to == ["ops@platform.test"]
    assert sent.subject == f"A backup of organization {row.pk} is bad: backup_damaged"
    assert f"of organization {row.pk} ({row.slug}) is bad: backup_damaged." in sent.body
    assert "check_orgs" in sent.body
    assert row.name not in sent.subject + str(sent.body)


def test_what_a_repeat_mends_is_not_mailed(alpha: Company, settings: Settings) -> None:
    key = new_key()
    settings.BACKUP_ENCRYPTION_KEYS = [str(key)]
    run = making.back_up(alpha.organization)
    settings.BACKUP_ENCRYPTION_KEYS = []
    for _ in range(2):
        with pytest.raises(BackupKeyMissing):
            verifying.verify(run, name=alpha.name)
    (job,) = ProcrastinateJob.objects.filter(task_name="send_alarm")
    assert job.scheduled_at > timezone.now() + timedelta(hours=2)
    settings.BACKUP_ENCRYPTION_KEYS = [str(key)]
    verifying.verify(run, name=alpha.name)
    mails.alarm(run.key)
    assert mail.outbox == []


def test_what_was_not_verified_for_long_is_reported(alpha: Company, settings: Settings) -> None:
    run = a_run(alpha, days=70, folder="nowhere")
    rows = Organization.objects.filter(pk=alpha.organization.pk)
    created = alpha.organization.created_at
    try:
        assert list(check_verified(databases=["default"])) == [], "it is new"
        rows.update(created_at=timezone.now() - 61 * DAY)
        (warning,) = check_verified(databases=["default"])
        assert warning.id == "organizations.W086"
        assert warning.msg.endswith(
            f"the last 60 days. The first one is {alpha.organization.slug}."
        )
        ((what, remedy),) = findings(alpha)
        assert what == "none of its backups was verified in the last 60 days"
        assert remedy == f"manage.py verify_backups -- '{alpha.name}'"
        BackupRun.objects.filter(pk=run.pk).update(verified_at=timezone.now() - 59 * DAY)
        assert list(check_verified(databases=["default"])) == []
        assert findings(alpha) == []
        settings.BACKUP_VERIFY_DAYS = 0
        assert list(check_verified(databases=["default"])) == []
    finally:
        rows.update(created_at=created)
