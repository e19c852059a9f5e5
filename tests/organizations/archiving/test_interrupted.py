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
from organizations.models import SpareDatabase
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


def archive_and_die(company: Company, death: Death) -> None:
    with pytest.MonkeyPatch.context() as patch:
        death(patch)
        kill_in_a_fork(lambda: lifecycle.archive_organization(row_of(company)))
    assert row_of(company).status == Status.ARCHIVING


def thaw_and_die(company: Company, death: Death) -> None:
    with pytest.MonkeyPatch.context() as patch:
        death(patch)
        kill_in_a_fork(lambda: lifecycle.thaw_organization(row_of(company)))


def test_before_its_backup_is_verified_and_held_it_comes_back(
    made: Company, client: Client
) -> None:
    token = made.token(client)
    for step, death in BACK.items():
        archive_and_die(made, death)
        registry.forget(made.tenant.alias)  # As in another process.
        with pytest.raises(OrganizationArchived), tenancy.override(made.tenant):
            User.objects.count()  # What is written now is in no backup.
        fence_pending()  # As a worker does within seconds.
        assert me(client, token) == 403, step
        lifecycle.reconcile_organizations()
        row = row_of(made)
        found = (row.status, row.archived_backup, row.deletion)
        assert found == (Status.ACTIVE, None, ""), step
        assert me(client, token) == 200, step
        assert contents(row.key) == {"deep/plan.txt": "ours"}, step
        assert problems(made) == [], step


def test_once_the_backup_is_held_it_is_archived(made: Company) -> None:
    for step, death in ON.items():
        archive_and_die(made, death)
        # From before the drop on: older code, whose sign-ups undo what they take for dropped,
        # cannot read it, and keeps the row.
        found = on_server(row_of(made)).identity
        assert found is not None and found.state == State.ARCHIVED, step
        outcome = lifecycle.reconcile_organizations()
        assert outcome["archived"] == [made.name], (step, outcome)
        row = row_of(made)
        assert row.status == Status.ARCHIVED and on_server(row).oid is None, step
        assert storage.folders_of(row.key) == [] and problems(made) == [], step
        assert thaw(made).status == Status.ACTIVE, step
        assert emails(made) == [made.email], step
        assert contents(row.key) == {"deep/plan.txt": "ours"}, step


def test_a_backup_that_is_lost_after_the_kill_brings_it_back(made: Company) -> None:
    archive_and_die(made, ON["it is held on to"])
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


def test_a_thaw_that_dies_leaves_it_archived_and_after_its_commit_is_done(
    made: Company, client: Client
) -> None:
    before = archive(made)
    for step, death in THAW.items():  # Each one begins with what the last one left.
        thaw_and_die(made, death)
        row = row_of(made)
        found = (row.status, row.archived_backup)
        assert found == (Status.ARCHIVED, before.archived_backup), step
        lifecycle.reconcile_organizations()
        assert storage.folders_of(row.key) == [] and problems(made) == [], step
        assert not SpareDatabase.objects.filter(fingerprint="").exists(), step
    assert thaw(made).status == Status.ACTIVE
    assert emails(made) == [made.email]
    assert contents(before.key) == {"deep/plan.txt": "ours"}

    before = archive(made)
    thaw_and_die(made, dies(thawing, "_open", after=True))
    assert me(client, made.token(client)) == 200
    lifecycle.reconcile_organizations()
    assert not on_server(before).has_role and problems(made) == []
    assert contents(before.key) == {"deep/plan.txt": "ours"}
