"""Prunes expired rows in the master database (jobs, sign-ups, sessions, counters, audit entries),
expired exports and old backups; drops, once due, deleted and read-only organizations and what
restores kept."""

from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connections
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from organizations import audit, lifecycle
from organizations.backups import retention
from organizations.jobs.models import JobProgress, PendingSignUp
from organizations.models import FormerName, StoredAnswer
from organizations.restoring import switching
from organizations.tenancy import counters

from . import exports

_ENDED = ["succeeded", "failed", "cancelled", "aborted"]
# A job's last event is when it ended; its events go with it (ON DELETE CASCADE).
_PRUNE_JOBS = """
DELETE FROM procrastinate_jobs WHERE status = ANY(%s::procrastinate_job_status[]) AND NOT EXISTS (
    SELECT FROM procrastinate_events AS event WHERE event.job_id = procrastinate_jobs.id
    AND event.at > now() - make_interval(hours => %s))
"""


def prune(*, goes_on: Callable[[], bool] = lambda: True) -> list[str]:
    """Delete what has expired: jobs and sign-ups that ended JOB_RETENTION_HOURS ago, staff
    sessions, counters, former names, stored answers, audit entries older than AUDIT_RETENTION_DAYS,
    exports older than a day, and backups that no period keeps. Fails sign-ups that have waited too
    long. Drops deleted organizations and what restores kept, when due. Returns descriptions of what
    was not removed. goes_on: false ends it early. Raises what the database raises."""
    PendingSignUp.objects.all().expire()
    now = timezone.now()
    before = now - timedelta(hours=settings.JOB_RETENTION_HOURS)
    with connections["default"].cursor() as cursor:
        cursor.execute(_PRUNE_JOBS, (_ENDED, settings.JOB_RETENTION_HOURS))
    known = ProcrastinateJob.objects.values("pk")
    JobProgress.objects.filter(updated_at__lt=before).exclude(job_id__in=known).delete()
    PendingSignUp.objects.filter(ended_at__lt=before).delete()
    FormerName.objects.filter(held_until__lt=now).delete()
    StoredAnswer.objects.expired().delete()
    Session.objects.filter(expire_date__lt=now).delete()
    counters.get().prune()
    audit.prune()
    exports.prune()
    left = [*retention.prune(), *lifecycle.drop_expired(goes_on=goes_on)]
    # Last: dropping an organization also drops what its restores kept.
    return left + switching.prune()
