"""On a host without the organizations' files, none counts as an organization without files."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import transaction
from pytest_django import Settings

from organizations import lifecycle
from organizations.backups import making, verifying
from organizations.checks.backups import check_mark
from organizations.cloning import files as clones
from organizations.errors import FilesKept, FilesUnknown
from organizations.exporting.export import export_organization
from organizations.models import (
    AuditEntry,
    Erasure,
    Installation,
    Organization,
    SpareDatabase,
    random_key,
)
from organizations.provisioning import media
from organizations.restoring import files
from organizations.tenancy import storage
from tests.conftest import Company, Superuser
from tests.organizations.helpers import kill_in_a_fork, names

from .helpers import contents, owner_of, row_of, write_file
from .test_interrupted import dies

Status = Organization.Status
ELSEWHERE = ("not mounted", "an empty mount point")
Elsewhere = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path) -> Elsewhere:
    """What makes this a host without the disk, in one of two ways, for a block."""

    @contextmanager
    def move(where: str) -> Iterator[None]:
        here, settings.MEDIA_ROOT = settings.MEDIA_ROOT, tmp_path / where
        if where == "an empty mount point":
            settings.MEDIA_ROOT.mkdir(exist_ok=True)
        yield
        settings.MEDIA_ROOT = here

    return move


REFUSED = r"no file installation-[0-9a-f]{32}\. Mount"


def test_no_backup_clone_or_restore_is_made_there(
    made: Company, folder: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(made, "plan.txt", "now")
    making.back_up(made.organization)
    # Refused before hours of work.
    monkeypatch.setattr(verifying, "check", None)
    acts: dict[str, Callable[[], object]] = {
        "a backup": lambda: making.back_up(made.organization),
        "a clone": lambda: lifecycle.clone_organization(made.organization, name="A Clone"),
        "a restore": lambda: lifecycle.restore_organization(row_of(made)),
    }
    for where in ELSEWHERE:
        for what, act in acts.items():
            with elsewhere(where), pytest.raises(FilesUnknown, match=REFUSED):
                act()
                pytest.fail(f"{what} was made: {where}")
    assert not Organization.objects.filter(name="A Clone").exists()


def test_nothing_is_exported_or_dropped_at_an_empty_mount_point(
    made: Company, settings: Settings, tmp_path: Path, superuser: Superuser
) -> None:
    write_file(made, "plan.txt", "now")
    here, settings.MEDIA_ROOT = settings.MEDIA_ROOT, tmp_path / "elsewhere"
    settings.MEDIA_ROOT.mkdir()
    with pytest.raises(FilesUnknown, match=REFUSED):
        export_organization(made.organization, tmp_path / "acme.zip")
    with pytest.raises(FilesKept):
        lifecycle.delete_organization(row_of(made))
    assert owner_of(superuser, made.organization.database_name) is not None
    assert not Erasure.objects.filter(organization_key=made.organization.key).exists()
    settings.MEDIA_ROOT = here
    assert made.name in lifecycle.reconcile_organizations()["deleted"]
    assert list(storage.keys()) == []


@pytest.mark.parametrize("act", ["a clone", "a restore"])
def test_what_was_killed_is_cleaned_up_by_a_host_that_has_its_files(
    made: Company,
    folder: Path,
    elsewhere: Elsewhere,
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
    act: str,
) -> None:
    write_file(made, "plan.txt", "now")
    databases = names(superuser, "SELECT datname FROM pg_database")
    making.back_up(made.organization)
    killed: Callable[[], object]
    for where in ELSEWHERE:
        with monkeypatch.context() as patched:
            dies(clones, "copy", after=True)(patched)
            dies(files, "unpack", after=True)(patched)
            if act == "a clone":
                killed = partial(lifecycle.clone_organization, made.organization, name="A Clone")
            else:
                killed = partial(lifecycle.restore_organization, row_of(made))
            kill_in_a_fork(killed)
        (left,) = set(storage.keys()) - {made.organization.key}
        assert names(superuser, "SELECT datname FROM pg_database") > databases, where
        with elsewhere(where):
            lifecycle.reconcile_organizations(wait_seconds=5)
        # The database goes; what names the files stays.
        assert names(superuser, "SELECT datname FROM pg_database") == databases, where
        assert contents(left) == {"plan.txt": "now"}, where
        assert lifecycle.reconcile_organizations(wait_seconds=5)["failed"] == [], where
        assert set(storage.keys()) == {made.organization.key}, where


def marks() -> list[str]:
    """The marks in MEDIA_ROOT."""
    return [path.name for path in Path(settings.MEDIA_ROOT).glob("installation-*")]


@contextmanager
def new_installation() -> Iterator[str]:
    """No organization was ever in use, and no mark was left. The name that it will have."""
    with transaction.atomic(using="default"):
        Organization.objects.filter(status=Status.DELETED).delete()  # Several had one name.
        Organization.objects.update(status=Status.PROVISIONING)
        key = random_key()
        Installation.objects.update(key=key)
        yield f"installation-{key}"
        transaction.set_rollback(True, using="default")


def test_only_the_first_start_of_all_and_an_operator_leave_the_mark(
    made: Company, settings: Settings, tmp_path: Path
) -> None:
    """An upload at an empty mount point makes it no folder of everybody's files."""
    mark = f"installation-{Installation.objects.get().key}"
    settings.MEDIA_ROOT = tmp_path / "not mounted"
    settings.MEDIA_ROOT.mkdir()
    write_file(made, "plan.txt", "now")
    call_command("prepare_start")
    assert not media.is_here()
    with pytest.raises(FilesUnknown, match="manage.py mark_media"):
        making.back_up(made.organization)
    (told,) = check_mark(databases=["default"])
    assert (told.id, mark in told.msg) == ("organizations.W083", True)
    assert marks() == []

    with new_installation() as new:
        for folder, left in (("first", [new]), ("another host", [])):
            settings.MEDIA_ROOT = tmp_path / folder
            settings.MEDIA_ROOT.mkdir()
            call_command("prepare_start")
            assert marks() == left
    with new_installation() as new:
        settings.MEDIA_ROOT = tmp_path / "made" / "files"
        media.mark_first()
        assert marks() == []
        media.mark_first(make_folder=True)  # As `make run` does.
        assert marks() == [new]

    settings.MEDIA_ROOT = tmp_path / "mounted"
    out = StringIO()
    call_command("mark_media", stdout=out)
    assert marks() == [mark]
    assert mark in out.getvalue()
    assert list(check_mark(databases=["default"])) == []
    entry = AuditEntry.objects.filter(act="media.marked").latest("id")
    assert (entry.facts, entry.organization_id) == ({"mark": mark}, None)


def test_a_folder_that_cannot_be_written_keeps_no_server_from_starting(settings: Settings) -> None:
    settings.MEDIA_ROOT = "/proc"
    with new_installation() as mark:
        call_command("prepare_start")
        assert not AuditEntry.objects.filter(facts={"mark": mark}).exists()
    with pytest.raises(CommandError, match="/proc cannot be marked"):
        call_command("mark_media")


def test_a_disk_that_cannot_be_read_is_not_here(made: Company, settings: Settings) -> None:
    """As a stale mount says: an error that is no absence."""
    settings.MEDIA_ROOT = f"/{'x' * 300}"
    assert not media.is_here()
    with pytest.raises(FilesUnknown):
        lifecycle.clone_organization(made.organization, name="A Clone")


def test_what_has_no_files_needs_no_mark(
    made: Company, folder: Path, settings: Settings, tmp_path: Path
) -> None:
    """Where no app has a FileField and there is no MEDIA_ROOT. Nobody is warned."""
    settings.MEDIA_ROOT = tmp_path / "none"
    making.back_up(made.organization)
    export_organization(made.organization, tmp_path / "acme.zip")
    assert list(check_mark(databases=["default"])) == []


def test_a_killed_verification_is_cleaned_up_everywhere(
    made: Company, folder: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no files."""
    run = making.back_up(made.organization)
    for where in ELSEWHERE:
        with monkeypatch.context() as patched:
            dies(verifying, "load", after=True)(patched)
            kill_in_a_fork(lambda: verifying.verify(run, name=made.name))
        assert SpareDatabase.objects.filter(fingerprint="").exists(), where
        with elsewhere(where):
            assert lifecycle.reconcile_organizations(wait_seconds=5)["failed"] == [], where
        assert not SpareDatabase.objects.filter(fingerprint="").exists(), where
