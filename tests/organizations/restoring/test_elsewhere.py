"""A host without the organizations' files takes nobody for an organization without files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import transaction
from pytest_django import Settings

from organizations import lifecycle
from organizations.backups import making
from organizations.cloning import files as clones
from organizations.errors import FilesKept, FilesUnknown
from organizations.exporting.export import export_organization
from organizations.models import Erasure, Installation, Organization
from organizations.provisioning import media
from organizations.restoring import files
from organizations.tenancy import storage
from tests.conftest import Company, Superuser
from tests.organizations.helpers import kill_in_a_fork

from .helpers import contents, owner_of, row_of, write_file
from .test_interrupted import dies

Status = Organization.Status
Elsewhere = Callable[[], None]


@pytest.fixture(params=["not mounted", "an empty mount point"])
def elsewhere(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Elsewhere:
    """Call it, and this is a host without the disk."""

    def move() -> None:
        settings.MEDIA_ROOT = tmp_path / "elsewhere"
        if request.param == "an empty mount point":
            settings.MEDIA_ROOT.mkdir()

    return move


REFUSED = r"no file installation-[0-9a-f]{32}\. Mount"


def test_no_backup_clone_or_restore_is_made_there(
    made: Company, folder: Path, elsewhere: Elsewhere
) -> None:
    write_file(made, "plan.txt", "now")
    making.back_up(made.organization)
    elsewhere()
    for act in (
        lambda: making.back_up(made.organization),
        lambda: lifecycle.clone_organization(made.organization, name="A Clone"),
        lambda: lifecycle.restore_organization(row_of(made)),
    ):
        with pytest.raises(FilesUnknown, match=REFUSED):
            act()
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
    settings: Settings,
    elsewhere: Elsewhere,
    monkeypatch: pytest.MonkeyPatch,
    act: str,
) -> None:
    write_file(made, "plan.txt", "now")
    making.back_up(made.organization)
    dies(clones, "copy", after=True)(monkeypatch)
    dies(files, "unpack", after=True)(monkeypatch)
    if act == "a clone":
        kill_in_a_fork(lambda: lifecycle.clone_organization(made.organization, name="A Clone"))
    else:
        kill_in_a_fork(lambda: lifecycle.restore_organization(row_of(made)))
    monkeypatch.undo()
    here = settings.MEDIA_ROOT
    (left,) = set(storage.keys()) - {made.organization.key}
    elsewhere()
    lifecycle.reconcile_organizations(wait_seconds=5)
    settings.MEDIA_ROOT = here
    assert contents(left) == {"plan.txt": "now"}
    assert lifecycle.reconcile_organizations(wait_seconds=5)["failed"] == []
    assert set(storage.keys()) == {made.organization.key}


def test_the_mark_is_left_where_it_certainly_belongs(made: Company, settings: Settings) -> None:
    """Where files of an organization are, and at the first start, when nobody has any."""
    key = Installation.objects.get().key
    mark = Path(settings.MEDIA_ROOT, f"installation-{key}")
    mark.unlink()
    call_command("prepare_start")
    assert not mark.exists()
    write_file(made, "plan.txt", "now")
    assert media.is_here()
    assert mark.exists()

    storage.remove(made.organization.key)
    mark.unlink()
    with transaction.atomic(using="default"):
        Organization.objects.update(status=Status.PROVISIONING)
        call_command("prepare_start")
        transaction.set_rollback(True, using="default")
    assert mark.exists()
