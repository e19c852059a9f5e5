"""The storage and the files: an unmounted disk is no loss; what is stored survives a crash."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from organizations import lifecycle, tenancy
from organizations.backups import making, runs, verifying
from organizations.backups.files import Archive
from organizations.errors import BackupFailed, BackupStorageUnknown, OrganizationNotFound
from organizations.models import BackupRun
from organizations.provisioning import media as marks
from tests.conftest import Company

from .helpers import Interfering, files_in, the_run, use

State = BackupRun.State


def test_a_storage_that_is_not_mounted_condemns_and_forgets_nothing(
    alpha: Company, beta: Company, folder: Path
) -> None:
    shutil.rmtree(folder)
    run = making.back_up(alpha.organization)  # The first of all marks the storage.
    old, killed = (making.back_up(beta.organization) for _ in range(2))
    BackupRun.objects.filter(pk=killed.pk).update(state=State.RUNNING)
    newest = {"organization_id": old.organization_id, "organization_key": old.organization_key}
    BackupRun.objects.create(**newest, state=State.GOOD, folder="elsewhere")  # Else `old` is kept.
    long_ago = timezone.now() - timedelta(days=900)
    BackupRun.objects.filter(pk=old.pk).update(started_at=long_ago)
    disk = folder.rename(folder.with_name("disk"))
    folder.mkdir()

    with pytest.raises(BackupStorageUnknown, match="Mount the disk, or set BACKUP_ROOT"):
        verifying.verify(run, name=alpha.name)
    with pytest.raises(BackupStorageUnknown):
        making.back_up(alpha.organization)
    outcome = lifecycle.reconcile_organizations()
    assert f"backups of organization {beta.organization.pk}" in outcome["failed"]
    out = StringIO()
    with pytest.raises(CommandError, match="Not all was removed"):
        call_command("prune", stdout=StringIO(), stderr=out)
    assert f"Not removed: backups of organization {beta.organization.pk}" in out.getvalue()
    assert list(folder.iterdir()) == []
    for each in (run, old, killed):
        each.refresh_from_db()
    assert (run.state, run.error_code) == (State.GOOD, "backup_storage_unknown")
    assert old.folder and (disk / old.folder).is_dir()
    assert killed.state == State.RUNNING

    folder.rmdir()
    disk.rename(folder)
    lifecycle.reconcile_organizations()
    killed.refresh_from_db()
    assert killed.state == State.GOOD
    for each in (run, killed):
        verifying.verify(each, name=each.folder)


def test_all_is_on_disk_before_a_backup_counts_as_good(
    alpha: Company, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(alpha, settings, folder)
    synced: list[Path] = []
    before: list[set[Path]] = []
    sync, succeed = os.fsync, runs.succeed

    def note(number: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{number}")))
        sync(number)

    def then(*arguments: Any, **named: Any) -> None:
        before.append(set(synced))
        succeed(*arguments, **named)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(runs, "succeed", then)
    run = making.back_up(alpha.organization)
    where = folder / run.folder
    parts = {where / name for name in ("database.dump", "files.tar", "manifest.json")}
    assert before == [{*parts, where, where.parent, folder}]
    assert synced.index(where / "database.dump") < synced.index(where / "manifest.json")


# --- Files ----------------------------------------------------------------------------------------
def keep(company: Company, settings: Settings, folder: Path) -> Path:
    """Give the organization a file. Returns its folder."""
    media = settings.MEDIA_ROOT = folder.with_name("media")
    marks.leave_mark()
    with tenancy.override(company.tenant):
        default_storage.save("plans/a.txt", ContentFile(b"a"))
    return media / company.organization.key


def test_an_empty_archive_of_no_files_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    content = b"".join(Archive(tmp_path, name="").chunks())
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getmembers() == [], "a link leads out of the folder"


def test_files_that_cannot_be_read_fail_the_backup_and_are_not_the_storages_fault(
    alpha: Company, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = keep(alpha, settings, folder) / "plans"
    scan = os.scandir

    def refuse(path: Any = ".") -> Any:
        if Path(path) == plans:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BackupFailed, match=r"its files cannot be read \(Permission denied\)"):
        making.back_up(alpha.organization)
    assert the_run(alpha.organization).error_code == "backup_failed"


def test_files_that_an_earlier_backup_holds_are_not_taken_for_deleted(
    alpha: Company, folder: Path, settings: Settings
) -> None:
    files = keep(alpha, settings, folder)
    making.back_up(alpha.organization)
    shutil.rmtree(files)
    with pytest.raises(BackupFailed, match="MEDIA_ROOT has no folder for it"):
        making.back_up(alpha.organization)
    files.mkdir(parents=True)
    verifying.verify(making.back_up(alpha.organization), name=alpha.name)
    files.rmdir()
    making.back_up(alpha.organization)


def test_a_deletion_that_takes_the_files_meanwhile_ends_the_backup(
    company: Callable[..., Company],
    folder: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = company()
    keep(made, settings, folder)
    use(settings, Interfering)
    monkeypatch.setattr(Interfering, "part", "files.tar")
    delete = staticmethod(lambda: lifecycle.delete_organization(made.organization))
    monkeypatch.setattr(Interfering, "act", delete)
    with pytest.raises(OrganizationNotFound):
        making.back_up(made.organization)
    assert files_in(folder) == set()
