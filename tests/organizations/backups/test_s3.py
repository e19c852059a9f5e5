"""Backups in S3 by django-storages, as docs/backups.md sets it up, on a server of that protocol."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.utils import timezone
from pytest_django import Settings

from organizations.backups import making, retention, storing, verifying
from organizations.checks.backups import check_place
from organizations.errors import BackupDamaged, BackupStorageFailed, BackupStorageUnknown
from organizations.models import BackupRun
from tests.conftest import Company

from .helpers import fill, make_chunks_small
from .test_encryption import new_key
from .test_storage import keep

State = BackupRun.State
DOCS = Path(__file__).resolve().parents[3] / "docs" / "backups.md"


def as_documented() -> dict[str, Any]:
    """The page's entry of STORAGES."""
    _, _, rest = DOCS.read_text().partition("\n## S3\n")
    code = rest.partition("```python\n")[2].partition("```")[0]
    found: dict[str, Any] = {"STORAGES": {}}
    exec(code, found)  # noqa: S102 - the page's
    entry: dict[str, Any] = found["STORAGES"]["backups"]
    return entry


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of S3's protocol, on this machine."""
    from moto.server import ThreadedMotoServer  # Slow to load.

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bucket of STORAGES["backups"], with the installation's mark. Chunks are small."""
    make_chunks_small(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    entry = as_documented()
    entry["OPTIONS"]["endpoint_url"] = server
    settings.STORAGES = {**settings.STORAGES, "backups": entry}
    storage: Any = storages["backups"]
    made = storage.bucket
    made.create(CreateBucketConfiguration={"LocationConstraint": entry["OPTIONS"]["region_name"]})
    storing.claim()
    yield made
    BackupRun.objects.all().delete()
    made.objects.all().delete()
    made.delete()


def names_in(bucket: Any) -> set[str]:
    return {each.key for each in bucket.objects.all() if not each.key.startswith("installation-")}


def test_a_backup_is_made_verified_and_pruned_in_s3(
    company: Callable[..., Company], bucket: Any, settings: Settings, tmp_path: Path
) -> None:
    made = company()
    keep(made, settings, tmp_path / "backups")
    fill(made)
    settings.BACKUP_ENCRYPTION_KEYS = [str(new_key())]
    old, run = (making.back_up(made.organization) for _ in range(2))
    parts = ("database.dump", "files.tar", "manifest.json")
    of_run = {f"{run.folder}/{part}" for part in parts}
    assert names_in(bucket) == of_run | {f"{old.folder}/{part}" for part in parts}
    verifying.verify(run, name=made.name)
    assert run.verified_at is not None
    long_ago = timezone.now() - timedelta(days=900)
    BackupRun.objects.filter(pk=old.pk).update(started_at=long_ago)
    assert retention.prune() == []
    assert names_in(bucket) == of_run
    assert list(BackupRun.objects.all()) == [run]
    with pytest.raises(BackupStorageFailed, match="FileExistsError"):
        storing.store_manifest(run.folder, b"another")
    assert names_in(bucket) == of_run, "nothing is replaced, and no copy is left"


def test_only_what_is_missing_in_the_installations_own_bucket_is_lost(
    alpha: Company, bucket: Any, server: str, settings: Settings
) -> None:
    run = making.back_up(alpha.organization)
    dump = bucket.Object(f"{run.folder}/database.dump")
    content = dump.get()["Body"].read()
    dump.delete()
    (mark,) = [each for each in bucket.objects.all() if each.key.startswith("installation-")]
    mark.delete()
    with pytest.raises(BackupStorageUnknown):
        verifying.verify(run, name=alpha.name)
    with pytest.raises(BackupStorageUnknown):
        making.back_up(alpha.organization)
    run.refresh_from_db()
    assert run.state == State.GOOD
    bucket.put_object(Key=mark.key, Body=b"")
    with pytest.raises(BackupDamaged, match=r"database\.dump is missing"):
        verifying.verify(run, name=alpha.name)
    dump.put(Body=content)
    verifying.verify(run, name=alpha.name)


def test_a_server_that_is_down_fails_a_backup_and_its_secrets_are_not_told(
    alpha: Company, bucket: Any, settings: Settings
) -> None:
    from botocore.config import Config

    entry = settings.STORAGES["backups"]
    away = {**entry["OPTIONS"], "endpoint_url": "http://127.0.0.1:9"}
    away["client_config"] = Config(retries={"max_attempts": 0}, connect_timeout=1)
    settings.STORAGES = {**settings.STORAGES, "backups": {**entry, "OPTIONS": away}}
    with pytest.raises(BackupStorageFailed, match="EndpointConnectionError") as raised:
        making.back_up(alpha.organization)
    assert "127.0.0.1" not in str(raised.value) and "orgmgmt-backups" not in str(raised.value)


def test_a_storage_that_reads_into_memory_is_warned_about(bucket: Any, settings: Settings) -> None:
    assert [message.id for message in check_place()] == []
    entry = settings.STORAGES["backups"]
    options = {key: each for key, each in entry["OPTIONS"].items() if key != "max_memory_size"}
    settings.STORAGES = {**settings.STORAGES, "backups": {**entry, "OPTIONS": options}}
    assert [message.id for message in check_place()] == ["organizations.W085"]
