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
    CacheUnavailable,
    DatabaseInUse,
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
    CacheUnavailable,
    DatabaseInUse,
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


def pause_seconds(
    error: BaseException, *, attempts: int, tries: float | None = None
) -> float | None:
    """Seconds until the next try; None for no retry.

    attempts: tries before the failed one, of `tries` or JOB_TRIES. Doubles each time, with jitter,
    so that jobs that failed together are not retried together.
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
    return float(min(2.0 ** min(attempts + 1, 30), _LONGEST_PAUSE_SECONDS) * jitter)


class Backoff(BaseRetryStrategy):
    """pause_seconds() as a Procrastinate retry strategy."""

    tries: float | None = None

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        pause = pause_seconds(exception, attempts=job.attempts, tries=self.tries)
        if pause is None:
            return None
        return RetryDecision(retry_at=timezone.now() + timedelta(seconds=pause))


class Patience(Backoff):
    """Retries for ever: for jobs that check themselves whether they are too late."""

    tries = math.inf
