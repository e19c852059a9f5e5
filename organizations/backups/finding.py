"""Finds backups in storage that a restored, older master does not know."""

import logging
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from organizations.errors import (
    BackupDamaged,
    BackupForeign,
    BackupNewer,
    BackupStorageFailed,
    BackupUnsigned,
)
from organizations.models import BackupRun, Organization
from organizations.postgres.sessions import ServerSession
from organizations.tenancy import trail

from . import manifest, storing
from .manifest import Manifest

logger = logging.getLogger(__name__)
_UNUSED = (BackupDamaged, BackupForeign, BackupNewer, BackupStorageFailed, BackupUnsigned)


def record_unknown(session: ServerSession, organization: Organization) -> int:
    """Record those whose signed manifest is this organization's. Returns their number.

    session: holds the backup lock. What this installation did not sign, and what cannot be read,
    is left and logged. Raises BackupStorageFailed if its folders cannot be listed.
    """
    of_it = BackupRun.objects.filter(organization_key=organization.key)
    known = set(of_it.values_list("folder", flat=True))
    found = 0
    for folder in storing.folders_of(organization.key):
        if folder in known:
            continue
        run = BackupRun(
            organization_id=organization.pk, organization_key=organization.key, folder=folder
        )
        try:
            read = _read(session, run)
        except _UNUSED as error:
            # One without a manifest was left by a killed process. An unreadable one does not
            # affect the others.
            logger.warning("stored backup not used", extra={"backup": folder}, exc_info=error)
            continue
        _record(run, read)
        found += 1
    return found


def _read(session: ServerSession, run: BackupRun) -> Manifest:
    content = storing.read_manifest(run.folder)
    run.key = manifest.named_in(content, run)
    read = manifest.read(content, run, installation=session.installation)
    if BackupRun.objects.filter(key=run.key).exists():
        raise BackupForeign(run.folder, "another folder")
    return read


def _record(run: BackupRun, read: Manifest) -> None:
    run.state = BackupRun.State.GOOD
    run.started_at, run.ended_at = datetime.fromisoformat(read.started_at), timezone.now()
    run.bytes, run.encryption_key = read.bytes_stored, read.key
    with transaction.atomic(using="default"):
        run.save(force_insert=True)
        trail.record(
            "backup.found",
            organization_id=run.organization_id,
            facts={"backup": run.key, "bytes": read.bytes_stored},
        )
