"""A storage of backups for each test, in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from organizations.backups import storing
from organizations.models import BackupRun, SpareDatabase

from .helpers import make_chunks_small


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """The folder of STORAGES["backups"], with the installation's mark. Chunks are small."""
    own = {**settings.STORAGES["backups"]}
    own["OPTIONS"] = {**own["OPTIONS"], "location": tmp_path / "backups"}
    settings.STORAGES = {**settings.STORAGES, "backups": own}
    storing.claim()
    # Not by the test's own monkeypatch, which it can undo.
    with pytest.MonkeyPatch.context() as patch:
        make_chunks_small(patch)
        yield tmp_path / "backups"
    BackupRun.objects.all().delete()
    assert not SpareDatabase.objects.filter(fingerprint="").exists(), (
        "a throw-away database is left"
    )
