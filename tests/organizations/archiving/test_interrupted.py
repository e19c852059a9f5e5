"""Interrupted archives and thaws: the organization is reopened, or archived with its backup."""

import pytest
from django.test import Client

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.archiving import archive as archiving
from organizations.archiving import thaw as thawing
from organizations.backups import closed, storing, verifying
from organizations.backups import making as backups
from organizations.errors import OrganizationArchived
from organizations.models import Organization, SpareDatabase
from organizations.postgres import aside, databases
from organizations.postgres.fence import fence_pending
from organizations.postgres.identity import State
from organizations.restoring import files, making
from organizations.tenancy import registry, storage
from tests.conftest import Company
from tests.organizations.helpers import kill_in_a_fork
from tests.organizations.restoring.helpers import contents, emails, me, row_of
from tests.organizations.restoring.test_interrupted import Death, dies

from .helpers import Status, archive, on_server, problems, thaw

BACK: dict[str, Death] = {
    "it is closed": dies(archiving, "_close", after=True),
    "it is aside": dies(aside, "put_aside", after=True),
    "it has a new password in its row alone": dies(closed, "set_password", after=False),
    "it is open for its backup": dies(aside, "bring_back", after=True),
    "it is backed up": dies(backups, "back_up", after=True),
    "the backup is verified": dies(verifying, "verify", after=True),
    "the backup is looked at again": dies(archiving, "_require_intact", after=True),
}
ON: dict[str, Death] = {
    "it is held on to": dies(archiving, "_hold_on_to", after=True),
    # The first is of what the verification made.
    "the database is dropped": dies(databases, "drop", after=True, times=2),
}


@pytest.mark.parametrize("step", BACK)
def test_before_its_backup_is_verified_and_held_it_comes_back(
    made: Company, client: Client, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    token = made.token(client)
    BACK[step](monkeypatch)
    kill_in_a_fork(lambda: lifecycle.archive_organization(row_of(made)))
    monkeypatch.undo()
    assert row_of(made).status == Status.ARCHIVING
    registry.forget(made.tenant.alias)  # As in another process.
    with pytest.raises(OrganizationArchived), tenancy.override(made.tenant):
        User.objects.count()  # What is written now is in no backup.
    fence_pending()  # As a worker does within seconds.
    assert me(client, token) == 403
    lifecycle.reconcile_organizations()
    row = row_of(made)
    assert (row.status, row.archived_backup, row.deletion) == (Status.ACTIVE, None, "")
    assert me(client, token) == 200
    assert contents(row.key) == {"deep/plan.txt": "ours"} and problems(made) == []


@pytest.mark.parametrize("step", ON)
def test_once_the_backup_is_held_it_is_archived(
    made: Company, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ON[step](monkeypatch)
    kill_in_a_fork(lambda: lifecycle.archive_organization(row_of(made)))
    monkeypatch.undo()
    assert row_of(made).status == Status.ARCHIVING
    # From before the drop on: older code, whose sign-ups undo what they take for dropped, cannot
    # read it, and keeps the row.
    found = on_server(row_of(made)).identity
    assert found is not None and found.state == State.ARCHIVED
    outcome = lifecycle.reconcile_organizations()
    assert outcome["archived"] == [made.name], outcome
    row = row_of(made)
    assert row.status == Status.ARCHIVED and on_server(row).oid is None
    assert storage.folders_of(row.key) == [] and problems(made) == []
    assert thaw(made).status == Status.ACTIVE
    assert emails(made) == [made.email]
    assert contents(row.key) == {"deep/plan.txt": "ours"}


def test_a_backup_that_is_lost_after_the_kill_brings_it_back(
    made: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    ON["it is held on to"](monkeypatch)
    kill_in_a_fork(lambda: lifecycle.archive_organization(row_of(made)))
    monkeypatch.undo()
    run = row_of(made).archived_backup
    assert run is not None
    storing.storage().delete(f"{run.folder}/{storing.DUMP}")
    outcome = lifecycle.reconcile_organizations()
    assert made.name in outcome["undone"]
    assert row_of(made).status == Status.ACTIVE and emails(made) == [made.email]


THAW: dict[str, Death] = {
    "the dump is restored": dies(verifying, "restore", after=True),
    "its files are unpacked": dies(files, "unpack", after=True),
    "its log-ins are ended": dies(making, "void_logins", after=True),
    "its files are in place": dies(thawing, "_move_files", after=True),
}


@pytest.mark.parametrize("step", THAW)
def test_a_thaw_that_dies_leaves_it_archived(
    made: Company, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = archive(made)
    THAW[step](monkeypatch)
    kill_in_a_fork(lambda: lifecycle.thaw_organization(row_of(made)))
    monkeypatch.undo()
    row = row_of(made)
    assert (row.status, row.archived_backup) == (Status.ARCHIVED, before.archived_backup)
    lifecycle.reconcile_organizations()
    assert storage.folders_of(row.key) == [] and problems(made) == []
    assert not SpareDatabase.objects.filter(fingerprint="").exists()
    assert thaw(made).status == Status.ACTIVE
    assert emails(made) == [made.email]
    assert contents(row.key) == {"deep/plan.txt": "ours"}


def test_a_thaw_that_dies_after_its_commit_is_done(
    made: Company, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: Organization = archive(made)
    dies(thawing, "_open", after=True)(monkeypatch)
    kill_in_a_fork(lambda: lifecycle.thaw_organization(row_of(made)))
    monkeypatch.undo()
    assert me(client, made.token(client)) == 200
    lifecycle.reconcile_organizations()
    assert not on_server(before).has_role and problems(made) == []
    assert contents(before.key) == {"deep/plan.txt": "ours"}
