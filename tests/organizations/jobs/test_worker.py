"""Workers: order, retries, progress, cancelling, and jobs of a killed worker."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connections
from procrastinate import PsycopgConnector
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from pytest_django import Settings

from organizations import tenancy
from organizations.background import control, enqueueing, stalled
from organizations.background.worker import JobWorker, _threads
from organizations.errors import JobWrongState, ServerUnavailable, SessionEnded
from organizations.jobs.frame import Progress, lock_of, organization_job, platform_job
from organizations.jobs.models import JobProgress
from organizations.jobs.retries import pause_seconds
from organizations.models import Organization, SpareDatabase
from organizations.postgres.sessions import open_session
from organizations.provisioning import refill, spares
from tests import processes
from tests.conftest import Company, Superuser
from tests.organizations.helpers import REPOSITORY, process_environment, wait_for
from tests.plugin import SERVER

from .helpers import job, progress, task, work

WAITS = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
SEEN: list[Any] = []
STOPPED = threading.Event()
MET = threading.Barrier(2, timeout=30)


@pytest.fixture
def master() -> Iterator[Superuser]:
    """The master database, in a session of its own."""
    parameters = SERVER.superuser_parameters("master_org_db")
    with psycopg.connect(**parameters, autocommit=True) as connection:  # type: ignore[arg-type]
        yield connection


@organization_job
def meet(organization: Organization, progress: Progress, *, alone: bool = False) -> None:
    """The first of alpha's meets beta's, which was requested after the second of alpha's."""
    if alone:
        SEEN.append("second")
        return
    MET.wait()
    SEEN.append(sorted(ProcrastinateJob.objects.values_list("id", "status")))
    MET.wait()


def test_two_jobs_of_one_organization_never_run_at_once(alpha: Company, beta: Company) -> None:
    SEEN.clear()
    first, second, other = _three(alpha, beta)
    assert SEEN[:2] == [[(first, "doing"), (second, "todo"), (other, "doing")]] * 2
    assert SEEN[2:] == ["second"]
    assert {job(number).status for number in (first, second, other)} == {"succeeded"}


def _three(alpha: Company, beta: Company) -> tuple[int, int, int]:
    with task(meet, name="meet") as meets:
        numbers = []
        for company, alone in ((alpha, False), (alpha, True), (beta, False)):
            pk = company.organization.pk
            under = meets.configure(lock=lock_of(pk))
            numbers.append(under.defer(organization_id=pk, alone=alone))
        work()
    return numbers[0], numbers[1], numbers[2]


@platform_job
def fail_as_told(progress: Progress, *, kind: str) -> None:
    raise {"outage": ServerUnavailable(), "cut": OperationalError(), "bug": KeyError("secret")}[
        kind
    ]


def test_a_fixable_failure_is_retried_and_finally_given_up(
    settings: Settings,
) -> None:
    settings.JOB_TRIES = 2
    with task(fail_as_told, name="fails") as fails:
        numbers = [fails.defer(kind=kind) for kind in ("outage", "cut")]
        work()
        for first in map(job, numbers):
            assert (first.status, first.attempts) == ("todo", 1)
            assert first.scheduled_at is not None
        work()
        assert [job(number).attempts for number in numbers] == [1, 1], "they are not due yet"
        with connections["default"].cursor() as cursor:
            cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = now()")
        work()
    assert [job(number).status for number in numbers] == ["failed", "failed"]


def test_a_failure_that_would_repeat_is_not_retried() -> None:
    with task(fail_as_told, name="fails") as fails:
        number = fails.defer(kind="bug")
        work()
    assert (job(number).status, job(number).attempts) == ("failed", 1)
    assert progress(number).error == "KeyError. See the log."


def test_pauses_double_up_to_five_minutes(settings: Settings) -> None:
    settings.JOB_TRIES = 100
    for attempts, longest in ((0, 2), (1, 4), (2, 8), (7, 256), (20, 300)):
        pause = pause_seconds(ServerUnavailable(), attempts=attempts)
        assert pause is not None and longest / 2 <= pause <= longest


def test_a_job_whose_session_was_ended_is_retried_for_longer(
    alpha: Company, settings: Settings
) -> None:
    """A suspension ends the sessions of jobs too, which is no fault of theirs."""
    with (
        tenancy.override(alpha.tenant),
        tenancy.connection().cursor() as cursor,
        pytest.raises(OperationalError) as ended,
    ):
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    for error in (ended.value, SessionEnded("Acme")):
        assert pause_seconds(error, attempts=settings.JOB_TRIES) is not None
        assert pause_seconds(error, attempts=3 * settings.JOB_TRIES) is None
    assert pause_seconds(OperationalError(), attempts=settings.JOB_TRIES) is None


def test_a_worker_finishes_what_a_killed_fence_left(alpha: Company) -> None:
    row = Organization.objects.filter(pk=alpha.organization.pk)
    row.update(pending_fence="of a killed process")
    looks = iter((True, False, False))
    JobWorker(goes_on=lambda: next(looks), concurrency=1)._rescue()
    assert row.get().pending_fence == ""


def test_a_worker_that_cannot_look_for_stalled_jobs_fences_all_the_same(
    alpha: Company, master: Superuser, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.LOCK_TIMEOUT_SECONDS = 0.1
    row = Organization.objects.filter(pk=alpha.organization.pk)
    row.update(pending_fence="of a killed process")
    looks = iter((True, False, False))
    with master.transaction():
        master.execute("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
        JobWorker(goes_on=lambda: next(looks), concurrency=1)._rescue()
    assert "check for interrupted work failed" in caplog.messages
    assert row.get().pending_fence == ""


def test_a_failed_job_is_done_again_on_demand_with_all_its_tries(settings: Settings) -> None:
    settings.JOB_TRIES = 1
    with task(fail_as_told, name="fails") as fails:
        number = fails.defer(kind="outage")
        work()
        assert job(number).status == "failed"
        settings.JOB_TRIES = 5
        control.retry(number)
        assert (job(number).status, job(number).attempts) == ("todo", 0)
        with pytest.raises(JobWrongState, match="only a failed job"):
            control.retry(number)


@organization_job
def stop_half_way(organization: Organization, progress: Progress) -> None:
    number = JobProgress.objects.latest("updated_at").pk
    control.cancel(number)
    while progress.goes_on():
        time.sleep(0.01)
    STOPPED.set()
    progress.stop_if_asked()
    SEEN.append("too far")


def test_a_job_that_runs_stops_when_it_is_cancelled(alpha: Company) -> None:
    SEEN.clear()
    with task(stop_half_way, name="stops") as stops:
        pk = alpha.organization.pk
        number = stops.configure(lock=lock_of(pk)).defer(organization_id=pk)
        JobWorker(goes_on=lambda: not STOPPED.is_set(), concurrency=1).run()
    assert job(number).status == "aborted"
    assert progress(number).error.startswith("stopped")
    assert not SEEN


def test_progress_can_be_read_while_the_job_runs(master: Superuser) -> None:
    seen: list[Any] = []

    @platform_job
    def tells(progress: Progress) -> None:
        progress.tell("counting", done=2, total=3)
        seen.extend(master.execute("SELECT step, done, total FROM job_progress"))

    with task(tells, name="tells") as telling:
        number = telling.defer()
        work()
    assert seen == [("counting", 2, 3)]
    assert progress(number).step == "done"


# --- A worker that dies --------------------------------------------------------------------------
@contextmanager
def a_worker(log: Path, **environment: str) -> Iterator[BaseProcess]:
    """`manage.py worker` on this test's server."""
    command, env = ("manage.py", "worker"), process_environment(**environment)
    with processes.running(*command, cwd=REPOSITORY, env=env, log=log) as process:
        yield process


def grow_old() -> None:
    """Make their workers' last heartbeats old."""
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 h'")


def test_a_job_whose_worker_was_killed_is_picked_up_again(
    superuser: Superuser, tmp_path: Path
) -> None:
    number = enqueueing.platform_job("refill_spares")
    assert number is not None
    with open_session() as session:
        session.lock(spares.LOCK, name="a test", timeout_seconds=10)
        try:
            with a_worker(tmp_path / "said", ORG_SPARE_DATABASES="1") as process:
                wait_for(superuser, WAITS)
                assert stalled.hand_back() == [], "its worker lives"
                process.kill()
                process.join()
        finally:
            session.unlock(spares.LOCK)
    assert job(number).status == "doing"
    assert stalled.hand_back() == [], "it may still live"
    grow_old()
    work()
    assert (job(number).status, job(number).attempts) == ("succeeded", 2)


def test_a_job_that_kills_its_workers_is_given_up(settings: Settings) -> None:
    settings.JOB_TRIES = 2
    number = enqueueing.platform_job("reconcile") or 0
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing', attempts = 4")
        assert stalled.hand_back() == [number]
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")
        assert stalled.hand_back() == []
    assert job(number).status == "failed"


def test_a_worker_refills_spares_and_stops_on_sigterm(master: Superuser, tmp_path: Path) -> None:
    with a_worker(tmp_path / "said", ORG_SPARE_DATABASES="1") as process:
        wait_for(master, "SELECT 1 FROM spare_databases WHERE ready")
        process.terminate()
        process.join(20)
        assert process.exitcode == 0, (tmp_path / "said").read_text()
    assert not ProcrastinateWorker.objects.exists()
    assert ProcrastinateJob.objects.get(task_name="refill_spares").status == "succeeded"
    with open_session() as session:
        refill.fill(session)


def test_a_refill_is_asked_for_once_and_not_right_after_a_failure(settings: Settings) -> None:
    settings.ORG_SPARE_DATABASES = 1
    asked = ProcrastinateJob.objects.filter(task_name="refill_spares")
    enqueueing.refill_if_due()
    JobProgress.objects.create(job_id=asked.get().pk)
    with connections["default"].cursor() as cursor:
        for status in ("todo", "doing", "failed"):
            cursor.execute("UPDATE procrastinate_jobs SET status = %s", [status])
            enqueueing.refill_if_due()
            assert asked.count() == 1, status
    JobProgress.objects.update(updated_at="2000-01-01T00:00Z")
    enqueueing.refill_if_due()
    assert asked.count() == 2


def test_a_refill_is_left_to_a_worker_with_the_code_that_asked_for_it(settings: Settings) -> None:
    settings.ORG_SPARE_DATABASES = 1
    number = enqueueing.refill()
    assert number is not None and enqueueing.refill() is None, "one waits already"
    ProcrastinateJob.objects.filter(pk=number).update(args={"fingerprint": "of other code"})
    work()
    assert (job(number).status, job(number).attempts) == ("todo", 1)
    assert not SpareDatabase.objects.exists()
    assert enqueueing.refill() is not None, "ours is another"


def test_a_worker_that_runs_once_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    listened = []

    async def listen(*_: Any, **channels: Any) -> None:
        listened.append(channels)

    monkeypatch.setattr(PsycopgConnector, "listen_notify", listen)
    with task(platform_job(lambda progress: SEEN.append("ran")), name="short") as short:
        short.defer()
        work()
    assert SEEN.pop() == "ran"
    # It stops as soon as no job waits. Cancelled half logged in, the listening connection would
    # hold up the DROPs of jobs that still run, until authentication_timeout (60 s).
    assert listened == []


def test_the_end_of_a_session_waits_for_no_unstarted_thread() -> None:
    """The executor can count a thread as idle twice, and then starts none for what is submitted."""
    with _threads(4) as threads:
        assert len(threads._threads) == 4
