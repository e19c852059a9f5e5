"""Interrupted clones leave the source unchanged, and nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from accounts import sessions
from organizations import lifecycle, tenancy
from organizations.cloning import clone as cloning
from organizations.cloning import files, hooks
from organizations.errors import CloneFailed, OrganizationNotFound, SessionEnded
from organizations.models import Organization
from organizations.postgres import transfer
from organizations.tenancy import storage
from tests.conftest import Company
from tests.organizations.helpers import kill_in_a_fork, kill_this_process

from .helpers import clone, row_of, rows_of

Status = Organization.Status
# Where it is killed: before this is called.
STEPS: dict[str, tuple[Any, str]] = {
    "the role": (cloning, "ensure_role"),
    "the database": (cloning, "ensure_database"),
    "the copy": (transfer, "pipe"),
    "the comparison": (transfer, "compare"),
    "the files": (files, "copy"),
    "the end of the files": (files, "_sync"),
    "the logins": (sessions, "void_all"),
    "the hooks": (hooks, "run"),
    "the activation": (cloning, "change_status"),
}


@pytest.fixture
def with_a_file(made: Company) -> Company:
    with tenancy.override(made.tenant):
        default_storage.save("plan.txt", ContentFile(b"a plan"))
    return made


def test_a_killed_clone_is_undone_and_the_source_is_as_it_was(
    with_a_file: Company,
    nothing_is_left: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = with_a_file
    row, before = row_of(made), rows_of(made.organization)
    for step, called in STEPS.items():
        with monkeypatch.context() as patched:
            patched.setattr(*called, lambda *_, **__: kill_this_process())
            kill_in_a_fork(lambda: clone(made))
        (left,) = Organization.objects.live().exclude(cloned_from=None)
        assert left.status == Status.PROVISIONING, f"killed before {step}, somebody can use it"
        undone = lifecycle.reconcile_organizations(wait_seconds=5)["undone"]
        assert undone == [left.name], step
        nothing_is_left(step)
        assert (row_of(made), rows_of(made.organization)) == (row, before), step
    assert clone(made).files == 1, "the name is free"


def test_files_that_cannot_be_removed_stay_with_the_row_that_names_them(
    with_a_file: Company, nothing_is_left: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_a_file
    with monkeypatch.context() as patched:
        patched.setattr(cloning, "change_status", lambda *_, **__: False)
        patched.setattr(shutil, "rmtree", _refuse)
        with pytest.raises(CloneFailed, match="it was cleaned up while it was being made"):
            clone(made)
        (left,) = Organization.objects.live().exclude(cloned_from=None)
        assert (left.status, storage.folder_of(left.key).is_dir()) == (Status.FAILED, True)
        assert left.name in lifecycle.reconcile_organizations(wait_seconds=5)["failed"]
    assert left.name in lifecycle.reconcile_organizations(wait_seconds=5)["undone"]
    nothing_is_left()


def _refuse(folder: Path) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_suspension_of_the_source_does_not_wait_and_ends_it(
    made: Company, nothing_is_left: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = transfer.pipe

    def meanwhile(*arguments: Any, **options: Any) -> list[str]:
        lifecycle.suspend_organization(made.organization)
        return pipe(*arguments, **options)

    monkeypatch.setattr(transfer, "pipe", meanwhile)
    with pytest.raises(SessionEnded):
        clone(made)
    nothing_is_left()


def test_a_deletion_of_the_source_leaves_no_clone_without_its_files(
    made: Company,
    company: Callable[..., Company],
    nothing_is_left: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = company()

    def meanwhile(*arguments: Any, **options: Any) -> int:
        lifecycle.delete_organization(Organization.objects.get(pk=other.organization.pk))
        return 0

    monkeypatch.setattr(files, "copy", meanwhile)
    with pytest.raises(OrganizationNotFound):
        clone(other)
    nothing_is_left()


@pytest.mark.parametrize("step", ["copying files", "neutralising accounts"])
def test_one_that_is_stopped_is_undone(
    with_a_file: Company, nothing_is_left: Callable[[], None], step: str
) -> None:
    said: list[str] = []
    with pytest.raises(CloneFailed, match="it was stopped"):
        lifecycle.clone_organization(
            with_a_file.organization,
            name="Never Made",
            goes_on=lambda: step not in said,
            tell=said.append,
        )
    assert said[-1] == step
    nothing_is_left()
