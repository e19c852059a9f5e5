"""Chooses which organizations' backups are verified next, and finds overdue ones."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Exists, OuterRef
from django.utils import timezone

from organizations.models import BackupRun, Organization, OrganizationQuerySet

# Between a night's job and the end of its last verification, and less than a day.
_NIGHT = timedelta(hours=12)

# Never tried ones first, then the least recently tried: those that always fail keep few others
# waiting, since one counts as never tried again only when retention has removed the failed run's
# row. The time of a failed try is that of its backup.
_DUE = """
SELECT o.id
FROM organizations AS o
CROSS JOIN LATERAL (
    SELECT r.verified_at FROM backup_runs AS r
    WHERE r.organization_key = o.key AND r.state = 'good'
    ORDER BY r.started_at DESC, r.id DESC LIMIT 1) AS newest
CROSS JOIN LATERAL (
    SELECT max(r.verified_at) FILTER (WHERE r.state = 'good') AS verified_at,
        max(coalesce(r.verified_at, r.started_at))
            FILTER (WHERE r.verified_at IS NOT NULL OR r.error_code <> '') AS tried_at
    FROM backup_runs AS r
    WHERE r.organization_key = o.key AND r.state IN ('good', 'bad')) AS last
WHERE o.status = ANY(%(usable)s) AND o.sealed_password <> ''
AND newest.verified_at IS NULL
AND (last.verified_at IS NULL OR last.verified_at < %(before)s)
ORDER BY last.tried_at NULLS FIRST, o.id
LIMIT (
    SELECT ceil(count(*)::numeric / %(days)s) FROM organizations
    WHERE status = ANY(%(usable)s) AND sealed_password <> '')
"""


def tonight() -> list[int]:
    """The organizations whose newest good backup is to be verified, least recently tried first.

    Those not verified within BACKUP_VERIFY_DAYS; at most so many that all get a turn in that time.
    """
    days = settings.BACKUP_VERIFY_DAYS
    if not days:
        return []
    parameters: dict[str, Any] = {
        "usable": [str(status) for status in Organization.Status.usable()],
        # The job runs earlier in the night than its verifications end.
        "before": timezone.now() - timedelta(days=days) + _NIGHT,
        "days": days,
    }
    with connections["default"].cursor() as cursor:
        cursor.execute(_DUE, parameters)
        return [number for (number,) in cursor.fetchall()]


def overdue() -> OrganizationQuerySet:
    """Those that have good backups, none of them verified within twice BACKUP_VERIFY_DAYS."""
    found: OrganizationQuerySet = Organization.objects.reachable()
    if not (settings.BACKUP_NIGHTLY and settings.BACKUP_VERIFY_DAYS):
        return found.none()
    before = timezone.now() - timedelta(days=2 * settings.BACKUP_VERIFY_DAYS)
    good = BackupRun.objects.filter(organization_key=OuterRef("key"), state=BackupRun.State.GOOD)
    lately = good.filter(verified_at__gt=before)
    return found.filter(Exists(good), ~Exists(lately), created_at__lt=before)
