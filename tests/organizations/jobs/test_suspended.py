"""An organization's own jobs wait while it is suspended; the operator's run."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from organizations import lifecycle, suspending
from organizations.background import enqueueing
from organizations.jobs import frame
from organizations.jobs.frame import WAITING, Progress, lock_of, organization_job
from organizations.jobs.models import SealedAddress
from organizations.models import Organization
from tests.accounts.link_helpers import ask
from tests.conftest import Company
from tests.organizations.helpers import together

from .helpers import clear, job, progress, task, work

SEEN: list[Any] = []


@organization_job
def note(organization: Organization, progress: Progress, *, what: str) -> None:
    SEEN.append(what)


def due_now() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = now()")


@pytest.fixture
def made(company: Callable[..., Company]) -> Company:
    return company()


@pytest.fixture
def suspended(made: Company) -> Organization:
    row = Organization.objects.get(pk=made.organization.pk)
    lifecycle.suspend_organization(row)
    return row


def test_a_mail_waits_and_is_sent_as_soon_as_the_organization_is_resumed(made: Company) -> None:
    assert ask(made, made.email).status_code == 202
    number = ProcrastinateJob.objects.get(task_name="send_mail").pk
    lifecycle.suspend_organization(made.organization)
    for _ in range(3):
        work()
        due_now()
    work()
    waiting = job(number)
    assert (waiting.status, waiting.attempts, mail.outbox) == ("todo", 0, [])
    assert waiting.scheduled_at is not None and waiting.scheduled_at > timezone.now()
    assert (progress(number).step, progress(number).error) == (WAITING, "")
    lifecycle.resume_organization(made.organization)
    work()
    assert job(number).status == "succeeded"
    assert [message.to for message in mail.outbox] == [[made.email]]
    assert not SealedAddress.objects.exists()


def test_an_operators_job_runs_past_one_that_waits_under_the_same_lock(
    suspended: Organization,
) -> None:
    SEEN.clear()
    lock = lock_of(suspended.pk)
    with task(note, name="note") as notes:
        numbers = [
            notes.configure(lock=lock).defer(organization_id=suspended.pk, what=what)
            for what in ("first", "second")
        ]
        work()
        enqueueing.migrations(Organization.objects.filter(pk=suspended.pk))
        enqueueing.clean_up(Organization.objects.filter(pk=suspended.pk))
        work()
        operators = ProcrastinateJob.objects.exclude(task_name="note")
        assert set(operators.values_list("status", flat=True)) == {"succeeded"}
        assert operators.count() == 2
        assert (SEEN, {job(each).status for each in numbers}) == ([], {"todo"})
        lifecycle.resume_organization(suspended)
        assert {job(each).lock for each in numbers} == {lock}, "again one at a time"
        work()
    assert SEEN == ["first", "second"]


def test_of_jobs_with_one_queueing_lock_one_waits(suspended: Organization) -> None:
    """However often it is asked for meanwhile, it runs once after the resumption."""
    SEEN.clear()
    with task(note, name="note") as notes:
        asked = notes.configure(lock=lock_of(suspended.pk), queueing_lock=f"note:{suspended.pk}")
        numbers = []
        for _ in range(3):
            numbers.append(asked.defer(organization_id=suspended.pk, what="it"))
            # One after the other: of two at once either can wait.
            work(concurrency=1)
            due_now()
        work(concurrency=1)
        assert [job(each).status for each in numbers] == ["todo", "succeeded", "succeeded"]
        assert (SEEN, job(numbers[0]).attempts) == ([], 0)
        lifecycle.resume_organization(suspended)
        work()
        assert (SEEN, job(numbers[0]).status) == (["it"], "succeeded")
        asked.defer(organization_id=suspended.pk, what="again")
        work()
    assert SEEN == ["it", "again"]


def test_of_jobs_with_one_queueing_lock_that_park_at_once_one_does(made: Company) -> None:
    """Two would meet in the queue, and the worker could put back only one."""
    with task(note, name="note") as notes:
        for turn in range(5):
            contexts: list[Any] = []
            for _ in range(4):
                number = notes.defer(organization_id=made.organization.pk, what="it")
                contexts.append(SimpleNamespace(job=SimpleNamespace(id=number, queueing_lock="x")))
            with connections["default"].cursor() as cursor:
                cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")
            parked = together(*(partial(frame._park, each) for each in contexts))
            assert sorted(map(bool, parked)) == [False, False, False, True], (turn, parked)
            clear()


def test_a_job_that_the_resumption_missed_runs_by_itself_and_under_its_lock(
    suspended: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker had it in hand just then: it was about to say that it waits."""
    SEEN.clear()
    lock = lock_of(suspended.pk)
    seen_locks: list[object] = []
    with task(note, name="note") as notes:
        number = notes.configure(lock=lock).defer(organization_id=suspended.pk, what="it")
        work()
        with monkeypatch.context() as patched:
            patched.setattr(suspending, "wake", lambda organization_id: None)
            lifecycle.resume_organization(suspended)
        assert job(number).lock != lock
        due_now()
        before = frame._wait_while_suspended

        def watch(context: Any, organization: Organization) -> None:
            seen_locks.append(context.job.lock)
            before(context, organization)

        monkeypatch.setattr(frame, "_wait_while_suspended", watch)
        work()
    assert SEEN == ["it"]
    assert seen_locks[-1] == lock
