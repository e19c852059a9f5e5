"""Jobs whose worker is dead: left `doing`, with nobody at them."""

import logging

from django.conf import settings
from django.db import connections, transaction

from . import sign_ups

logger = logging.getLogger(__name__)

# What a transaction holds that hands them back: of two at it, the second would take a job from the
# worker that the first has given it to. Of a transaction and not of a session, so that it holds
# behind a pooler too. "orgmgmt" in ASCII.
_LOCK = 0x6F72676D676D74
_STALLED = """
SELECT job.id, job.attempts FROM procrastinate_jobs AS job
LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
WHERE job.status = 'doing' AND (
    worker.id IS NULL OR worker.last_heartbeat < now() - make_interval(secs => %s)
)
ORDER BY job.id FOR UPDATE OF job
"""
# Without what keeps doubles from waiting: one can be waiting by now, and both shall run.
_HAND_BACK = """
UPDATE procrastinate_jobs SET queueing_lock = NULL WHERE id = %(id)s;
SELECT procrastinate_retry_job_v2(%(id)s, now(), NULL, NULL, NULL)
"""
_FAIL = "SELECT procrastinate_finish_job_v1(%(id)s, 'failed', false)"


def hand_back() -> list[int]:
    """Let other workers have the jobs of those that were silent for JOB_STALLED_SECONDS.

    Their numbers. A job that has been left behind three times as often as JOB_TRIES allows fails:
    it may be what kills its workers. Raises what the database raises.
    """
    handed: list[int] = []
    with transaction.atomic(using="default"), connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor.execute(_STALLED, (settings.JOB_STALLED_SECONDS,))
        for job_id, attempts in cursor.fetchall():
            if attempts + 1 >= 3 * settings.JOB_TRIES:
                cursor.execute(_FAIL, {"id": job_id})
                detail = "The sign-up was begun too often without an end. Try again later."
                sign_ups.give_up(job_id, detail=detail, code="provisioning_failed")
                logger.error("job given up: its workers die", extra={"job": job_id})
                continue
            cursor.execute(_HAND_BACK, {"id": job_id})
            handed.append(job_id)
            logger.warning("stalled job handed back", extra={"job": job_id})
    return handed
