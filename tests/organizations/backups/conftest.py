"""A storage of backups for each test, in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from organizations.backups import storing
from organizations.models import BackupRun, SpareDatabase


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """The folder of STORAGES["backups"], with the installation's mark."""
    own = {**settings.STORAGES["backups"]}
    own["OPTIONS"] = {**own["OPTIONS"], "location": tmp_path / "backups"}
    settings.STORAGES = {**settings.STORAGES, "backups": own}
    storing.claim()
    yield tmp_path / "backups"
    BackupRun.objects.all().delete()
    assert not SpareDatabase.objects.filter(fingerprint="").exists(), (
        "a throw-away database is left"
    )
