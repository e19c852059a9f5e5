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
    TookTooLong,
)
from organizations.tenancy import TooBusy

# What can be better the next time. All else fails the same way again.
TRANSIENT = (
    CacheUnavailable,
    DatabaseInUse,
    MailServerUnavailable,
    OrganizationBusy,
    OrganizationMigrating,
    OtherCode,
    ServerUnavailable,
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
    """How long until the next try; None where there is none.

    attempts: how many there were before the one that failed; of `tries`, or JOB_TRIES. Doubles each
    time, with jitter, so that what failed together does not come back together.
    """
    if isinstance(error, JobAborted):
        return 0.0  # Asked for by a worker that ends: another takes it at once.
    if tries is None:
        tries = settings.JOB_TRIES
    if not isinstance(error, TRANSIENT) or attempts + 1 >= tries:
        return None
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return float(min(2.0 ** min(attempts + 1, 30), _LONGEST_PAUSE_SECONDS) * jitter)


class Backoff(BaseRetryStrategy):
    """pause_seconds(), as Procrastinate asks for it."""

    tries: float | None = None

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        pause = pause_seconds(exception, attempts=job.attempts, tries=self.tries)
        if pause is None:
            return None
        return RetryDecision(retry_at=timezone.now() + timedelta(seconds=pause))


class Patience(Backoff):
    """The same without an end: for jobs that know themselves when they come too late."""

    tries = math.inf
