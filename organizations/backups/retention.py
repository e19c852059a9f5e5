"""Removes old backups: keeps the newest good one of each recent day, week and month.

A dropped organization's last ones go when its erasure record says.
"""

import logging
from datetime import date, datetime, timedelta

from django.conf import settings
from django.utils import timezone

from organizations.errors import BackupRunning, BackupStorageFailed
from organizations.models import BackupRun, Erasure, Organization

from . import runs

logger = logging.getLogger(__name__)

State = BackupRun.State


def prune() -> list[str]:
    """Remove what no period keeps. Returns descriptions of what was not removed.

    Never an organization's newest good backup or newest verified one, nor the one that an archived
    organization is thawed from. All backups of a dropped one go at its erasure record's
    `backups_until`, and the record says so. Bad ones are thinned like good ones, separately;
    records of failed ones go with the longest period. A failure does not affect the others.
    """
    left = []
    keys = BackupRun.objects.order_by("organization_key").distinct("organization_key")
    for key, number in keys.values_list("organization_key", "organization_id"):
        if not surplus(key):
            continue
        what = f"backups of organization {number}"
        try:
            with runs.locked(key, name=what):
                for run in surplus(key):
                    runs.remove(run)
        except BackupRunning:
            continue  # The next time.
        except BackupStorageFailed as error:
            logger.error("backups not removed", extra={"what": what}, exc_info=error)
            left.append(what)
    stored = BackupRun.objects.values("organization_key")
    ended = Erasure.objects.filter(backups_until__lt=timezone.now(), backups_gone_at=None)
    ended.exclude(organization_key__in=stored).update(backups_gone_at=timezone.now())
    return left


def surplus(organization_key: str) -> list[BackupRun]:
    """The organization's backups that no period keeps."""
    ended = BackupRun.objects.filter(organization_key=organization_key)
    ended = ended.exclude(state=State.RUNNING)
    good, bad = ([run for run in ended if run.state == each] for each in (State.GOOD, State.BAD))
    kept = {run.pk for run in (*_kept(good), *_kept(bad))}
    is_there = Organization.objects.live().filter(key=organization_key).exists()
    erased = None if is_there else Erasure.objects.filter(organization_key=organization_key).first()
    if erased is not None and (erased.backups_until or timezone.now()) <= timezone.now():
        return list(ended)
    archived = Organization.objects.filter(key=organization_key).exclude(archived_backup=None)
    kept |= set(archived.values_list("archived_backup_id", flat=True))
    # Also if no row has this key: an adoption that failed can have removed it.
    verified = [run for run in good if run.verified_at is not None]
    kept |= {run.pk for run in (*good[:1], *verified[:1])}
    before = timezone.now() - timedelta(days=_longest_days())
    return [
        run
        for run in ended
        if run.pk not in kept and (run.state != State.FAILED or run.started_at < before)
    ]


def _kept(good: list[BackupRun]) -> list[BackupRun]:
    """The newest of each period; `good` is sorted, the newest first."""
    kept = []
    seen: set[tuple[str, date]] = set()
    for run in good:
        periods = _periods(run.started_at)
        if periods - seen:
            kept.append(run)
        seen |= periods
    return kept


def _periods(moment: datetime) -> set[tuple[str, date]]:
    """The kept periods that the moment is in."""
    day, today = moment.date(), timezone.now().date()
    week, this_week = _monday(day), _monday(today)
    months = 12 * (today.year - day.year) + today.month - day.month
    periods = set()
    if today - day < timedelta(days=settings.BACKUP_KEEP_DAILY):
        periods.add(("day", day))
    if this_week - week < timedelta(weeks=settings.BACKUP_KEEP_WEEKLY):
        periods.add(("week", week))
    if months < settings.BACKUP_KEEP_MONTHLY:
        periods.add(("month", day.replace(day=1)))
    return periods


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _longest_days() -> int:
    return max(
        settings.BACKUP_KEEP_DAILY,
        7 * settings.BACKUP_KEEP_WEEKLY,
        31 * settings.BACKUP_KEEP_MONTHLY,
    )
