"""Recovers stalled jobs: those still `doing` whose worker is dead."""

import logging

from django.conf import settings
from django.db import connections, transaction

from . import sign_ups

logger = logging.getLogger(__name__)

# Held by the transaction that hands jobs back: a second one at the same time would take a job from
# the worker that has just got it. A transaction's lock, not a session's, so that it also works
# through a pooler. The number is "orgmgmt" in ASCII.
_LOCK = 0x6F72676D676D74
_STALLED = """
SELECT job.id, job.attempts FROM procrastinate_jobs AS job
LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
WHERE job.status = 'doing' AND (
    worker.id IS NULL OR worker.last_heartbeat < now() - make_interval(secs => %s)
)
ORDER BY job.id FOR UPDATE OF job
"""
# Clears the queueing lock: a second job with it may be waiting by now, and both must run.
_HAND_BACK = """
UPDATE procrastinate_jobs SET queueing_lock = NULL WHERE id = %(id)s;
SELECT procrastinate_retry_job_v2(%(id)s, now(), NULL, NULL, NULL)
"""
_FAIL = "SELECT procrastinate_finish_job_v1(%(id)s, 'failed', false)"


def hand_back() -> list[int]:
    """Requeue the jobs of workers that were silent for JOB_STALLED_SECONDS. Returns their ids.

    A job abandoned 3 × JOB_TRIES times fails: it may be what kills its workers. Raises
    what the database raises.
    """
    handed: list[int] = []
    with transaction.atomic(using="default"), connections["default"].cursor() as cursor:
        limit = f"{settings.LOCK_TIMEOUT_SECONDS}s"
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (limit,))
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor.execute(_STALLED, (settings.JOB_STALLED_SECONDS,))
        for job_id, attempts in cursor.fetchall():
            if attempts + 1 >= 3 * settings.JOB_TRIES:
                cursor.execute(_FAIL, {"id": job_id})
                detail = "The sign-up failed repeatedly. Try again later."
                sign_ups.give_up(job_id, detail=detail, code="provisioning_failed")
                logger.error("job failed: its workers keep dying", extra={"job": job_id})
                continue
            cursor.execute(_HAND_BACK, {"id": job_id})
            handed.append(job_id)
            logger.warning("stalled job requeued", extra={"job": job_id})
    return handed
