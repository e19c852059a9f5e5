"""A grace of 30 days, and folders of the test's own for files and backups."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from organizations.backups import storing
from organizations.models import BackupRun, Erasure
from organizations.provisioning import media


@pytest.fixture(autouse=True)
def _grace(settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.ORG_DELETION_GRACE_DAYS = 30
    settings.MEDIA_ROOT = tmp_path / "files"
    media.leave_mark()
    own = {**settings.STORAGES["backups"]}
    own["OPTIONS"] = {**own["OPTIONS"], "location": tmp_path / "backups"}
    settings.STORAGES = {**settings.STORAGES, "backups": own}
    storing.claim()
    yield
    BackupRun.objects.all().delete()
    Erasure.objects.all().delete()
