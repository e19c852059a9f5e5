"""Interrupted and concurrent restores beside: the organization is made once, or not at all."""

from collections.abc import Callable
from typing import Any

import pytest

from organizations import lifecycle
from organizations.backups import making as backups
from organizations.errors import BackupRunning, OrganizationNotFound
from organizations.models import Restore, SpareDatabase
from organizations.postgres import identity
from organizations.provisioning import making as provisioning
from organizations.restoring import beside, making
from tests.conftest import Company, Superuser, leftovers
from tests.organizations.helpers import kill_in_a_fork, kill_this_process, together

from .helpers import besides, contents, emails, look_at, row_of, whole
from .test_interrupted import dies

State = Restore.State
STEPS: dict[str, tuple[Any, str]] = {
    "the restore": (making, "_load"),
    "the migrations": (making, "_migrate"),
    "the log-ins": (making, "void_logins"),
    "the switch to read-only": (beside, "read_only"),
    "the row": (provisioning, "insert"),
    "the identity": (identity, "change"),
}


def test_of_two_at_once_one_is_made_or_both_one_after_the_other(backed_up: Company) -> None:
    results = together(*(lambda name=name: look_at(backed_up, name=name) for name in ("A1", "A2")))
    assert all(isinstance(each, Company | BackupRunning) for each in results), results
    assert len(besides()) == sum(isinstance(each, Company) for each in results) >= 1


def test_it_is_not_opened_if_the_other_one_was_deleted_meanwhile(
    backed_up: Company, company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = company()
    backups.back_up(other.organization)
    void = making.void_logins

    def meanwhile(*arguments: Any) -> None:
        lifecycle.delete_organization(row_of(other))
        void(*arguments)

    monkeypatch.setattr(making, "void_logins", meanwhile)
    with pytest.raises(OrganizationNotFound):
        look_at(other)
    assert not besides()


def test_one_that_is_killed_is_undone_and_made_by_the_next_try(
    backed_up: Company, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = whole(backed_up)
    # Each try comes further than the one before.
    for step, called in STEPS.items():
        with monkeypatch.context() as patched:
            patched.setattr(*called, lambda *_, **__: kill_this_process())
            kill_in_a_fork(lambda: look_at(backed_up, key="f" * 32))
        assert not besides(), step
        assert Restore.objects.get().state == State.RUNNING, step
        lifecycle.reconcile_organizations(wait_seconds=5)
        assert Restore.objects.get().state == State.FAILED, step
        assert leftovers(superuser) == (set(), set()), step
        assert not SpareDatabase.objects.filter(fingerprint="").exists(), step
        assert whole(backed_up) == before, step
    looked = look_at(backed_up, key="f" * 32)
    assert emails(looked) == [looked.email]
    assert Restore.objects.get().beside_id == looked.organization.pk


def test_one_that_is_killed_after_its_commit_is_made_once(
    backed_up: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        dies(beside, "_open", after=True)(patched)
        kill_in_a_fork(lambda: look_at(backed_up, key="f" * 32))
    (made,) = besides()
    lifecycle.reconcile_organizations(wait_seconds=5)
    looked = look_at(backed_up, key="f" * 32)
    assert looked.organization == made
    assert (emails(looked), contents(made.key)) == ([looked.email], {"plan.txt": "then"})


def test_what_an_older_master_calls_a_throw_away_database_keeps_its_files(
    backed_up: Company,
) -> None:
    row = look_at(backed_up).organization
    old = SpareDatabase.objects.create(
        server=row.server, key=row.key, database_name="gone", role_name="gone", fingerprint=""
    )
    lifecycle.reconcile_organizations(wait_seconds=5)
    assert not SpareDatabase.objects.filter(pk=old.pk).exists()
    assert contents(row.key) == {"plan.txt": "then"}
