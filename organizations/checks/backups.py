"""System checks of backups: where they are, and whether each organization has a recent one."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.files.storage import FileSystemStorage, storages
from django.db import DatabaseError
from django.db.models import Exists, OuterRef
from django.utils import timezone

from organizations.errors import ProgramMissing
from organizations.postgres import programs

# A nightly one that was late, and one that failed.
_OLDEST = timedelta(days=3)


@checks.register
def check_place(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """Backups must not be among the files that are served, and their programs must be there."""
    names = ("BACKUP_NIGHTLY", "BACKUP_BEFORE_DROP")
    if on := [name for name in names if getattr(settings, name)]:
        try:
            programs.program("pg_dump")
        except ProgramMissing as error:
            yield checks.Warning(
                f"{on[0]} is on, and there is no pg_dump on this host.",
                hint=f"Only workers need it. {error}",
                id="organizations.W082",
            )
    where = storages["backups"]
    if getattr(where, "max_memory_size", None) == 0:
        yield checks.Warning(
            'STORAGES["backups"] holds each file in memory while it is read.',
            hint="Set its option max_memory_size, such as 10_000_000: then a temporary file does.",
            id="organizations.W085",
        )
    if not isinstance(where, FileSystemStorage):
        return
    for name in ("MEDIA_ROOT", "STATIC_ROOT"):
        if _is_in(str(where.location), str(getattr(settings, name))):
            yield checks.Error(
                f"BACKUP_ROOT is inside {name}.",
                hint="Set BACKUP_ROOT to a folder of its own, best on another disk.",
                id="organizations.E080",
            )


def _is_in(folder: str, other: str) -> bool:
    return Path(folder).resolve().is_relative_to(Path(other).resolve())


@checks.register(checks.Tags.database)
def check_mark(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """MEDIA_ROOT must have the files' mark, if there is one or a tenant app needs it."""
    if not databases or "default" not in databases:
        return
    from organizations.provisioning import media

    try:
        lacking = media.mark_name() if media.is_elsewhere() else ""
    except DatabaseError:
        return  # organizations.E001 reports that.
    if lacking:
        yield checks.Warning(
            f"MEDIA_ROOT on this host has no mark {lacking}, so it does not count as the folder of "
            "the organizations' files: much that needs them is refused here.",
            hint="Mount the disk. If it is the right folder, run `manage.py mark_media` once.",
            id="organizations.W083",
        )


@checks.register(checks.Tags.database)
def check_keys(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """The keys of all backups must be there: without them nobody can restore those."""
    if not databases or "default" not in databases:
        return
    from organizations.backups import encryption
    from organizations.models import BackupRun

    encrypted = BackupRun.objects.filter(state=BackupRun.State.GOOD).exclude(encryption_key="")
    lacking = encrypted.exclude(encryption_key__in=encryption.key_ids())
    try:
        number, first = lacking.count(), lacking.first()
    except DatabaseError:
        return  # organizations.E001 reports that.
    if first is not None:
        yield checks.Warning(
            f"{number} backups are encrypted with keys that BACKUP_ENCRYPTION_KEYS does not have. "
            f"That of the newest is {first.encryption_key}.",
            hint="Add the keys to the end of the list, until no backup needs them.",
            id="organizations.W084",
        )


@checks.register(checks.Tags.database)
def check_backups(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """With BACKUP_NIGHTLY, each organization must have a recent good backup."""
    if not databases or "default" not in databases or not settings.BACKUP_NIGHTLY:
        return
    from organizations.models import BackupRun, Organization

    before = timezone.now() - _OLDEST
    recent = BackupRun.objects.filter(
        organization_key=OuterRef("key"), state=BackupRun.State.GOOD, started_at__gt=before
    )
    lacking = (
        Organization.objects.reachable().writable().filter(~Exists(recent), created_at__lt=before)
    )
    try:
        number, first = lacking.count(), lacking.order_by("pk").first()
    except DatabaseError:
        return  # organizations.E001 reports that.
    if first is not None:
        yield checks.Warning(
            f"{number} organizations have no good backup from the last {_OLDEST.days} days. The "
            f"first one is {first.slug}.",
            hint="Check that a worker runs, and what `manage.py backup_orgs` says.",
            id="organizations.W081",
        )


@checks.register(checks.Tags.database)
def check_verified(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """With BACKUP_NIGHTLY and BACKUP_VERIFY_DAYS, each organization must have a verified backup."""
    if not databases or "default" not in databases:
        return
    from organizations.backups import due

    try:
        lacking = due.overdue()
        number, first = lacking.count(), lacking.order_by("pk").first()
    except DatabaseError:
        return  # organizations.E001 reports that.
    if first is not None:
        yield checks.Warning(
            f"{number} organizations have no backup that was verified in the last "
            f"{2 * settings.BACKUP_VERIFY_DAYS} days. The first one is {first.slug}.",
            hint="Check that a worker runs, and what `manage.py verify_backups` says.",
            id="organizations.W086",
        )
