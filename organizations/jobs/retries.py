"""Decides which failed jobs are retried, and when."""

import math
import random
from datetime import timedelta

import psycopg
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.exceptions import JobAborted
from procrastinate.jobs import Job
from redis.exceptions import RedisError

from organizations.errors import (
    BackupLocked,
    BackupRunning,
    BackupStorageFailed,
    CacheUnavailable,
    DatabaseInUse,
    FilesUnknown,
    JobWaits,
    MailServerUnavailable,
    OrganizationBusy,
    OrganizationMigrating,
    OtherCode,
    ServerUnavailable,
    SessionEnded,
    SessionsRemain,
    TookTooLong,
)
from organizations.postgres.trouble import cause_of
from organizations.tenancy import TooBusy

# Errors that a retry can fix. All others would fail the same way again.
TRANSIENT = (
    BackupLocked,
    BackupRunning,
    BackupStorageFailed,
    CacheUnavailable,
    DatabaseInUse,
    FilesUnknown,
    MailServerUnavailable,
    OrganizationBusy,
    OrganizationMigrating,
    OtherCode,
    ServerUnavailable,
    SessionEnded,
    SessionsRemain,
    TookTooLong,
    TooBusy,
    InterfaceError,
    OperationalError,
    psycopg.OperationalError,
    RedisError,
)
_LONGEST_PAUSE_SECONDS = 300.0
# Between an organization's lock and the id of its job that waits until it is resumed. With a lock
# of its own, that job holds up none of the operator's. And after its queueing lock.
PARKED = ":suspended:"


def pause_seconds(
    error: BaseException,
    *,
    attempts: int,
    tries: float | None = None,
    first_seconds: float = 2.0,
    longest_seconds: float = _LONGEST_PAUSE_SECONDS,
) -> float | None:
    """Seconds until the next try; None for no retry.

    attempts: tries before the failed one, of `tries` or JOB_TRIES. first_seconds doubles each time,
    up to longest_seconds, with jitter, so that jobs that failed together are not retried together.
    """
    if isinstance(error, JobAborted):
        return 0.0  # The worker is stopping: another takes the job at once.
    if tries is None:
        tries = settings.JOB_TRIES
        if isinstance(cause_of(error), psycopg.errors.AdminShutdown | SessionEnded):
            # The fence ended its session: no fault of the job's. But an organization's own SQL can
            # do the same.
            tries *= 3
    if not isinstance(error, TRANSIENT) or attempts + 1 >= tries:
        return None
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return float(min(first_seconds * 2.0 ** min(attempts, 30), longest_seconds) * jitter)


class Backoff(BaseRetryStrategy):
    """pause_seconds() as a Procrastinate retry strategy."""

    tries: float | None = None
    first_seconds = 2.0
    longest_seconds = _LONGEST_PAUSE_SECONDS

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, JobWaits):
            return _parked(job, exception)
        pause = pause_seconds(
            exception,
            attempts=job.attempts,
            tries=self.tries,
            first_seconds=self.first_seconds,
            longest_seconds=self.longest_seconds,
        )
        if pause is None:
            return None
        return RetryDecision(retry_at=timezone.now() + timedelta(seconds=pause))


def _parked(job: Job, waits: JobWaits) -> RetryDecision:
    lock = job.lock and job.lock.partition(PARKED)[0]
    if waits.is_over:
        return RetryDecision(retry_at=timezone.now(), lock=lock)
    # By itself too: a worker can have it in hand while the organization is resumed.
    later = timezone.now() + timedelta(seconds=waits.seconds or _LONGEST_PAUSE_SECONDS)
    return RetryDecision(retry_at=later, lock=lock and f"{lock}{PARKED}{job.id}")


class Patience(Backoff):
    """Retries for ever: for jobs that check themselves whether they are too late."""

    tries = math.inf


class Unhurried(Backoff):
    """Retries for about two hours: for what nobody waits for, and whose storage, lock or busy
    server can take that long."""

    tries = 8
    first_seconds = 60.0
    longest_seconds = 3_600.0


class Once(Unhurried):
    """Retries only if its worker stops, or while another works on the same: for what blocks access
    each time it begins."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if not isinstance(exception, JobAborted | BackupRunning | OrganizationBusy):
            return None
        return super().get_retry_decision(exception=exception, job=job)
