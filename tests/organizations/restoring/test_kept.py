"""What a restore keeps is dropped with its organization, or the row says what is left."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import transaction
from django.utils import timezone
from psycopg import sql
from pytest_django import Settings

from organizations import lifecycle
from organizations.backups import making
from organizations.errors import BackupMissing, DatabaseKept, OrganizationBusy
from organizations.inspecting import checking
from organizations.models import (
    BackupRun,
    Erasure,
    Installation,
    Organization,
    Restore,
    SpareDatabase,
)
from organizations.naming import name_key
from organizations.postgres.identity import Identity
from organizations.postgres.sessions import open_session
from organizations.recovery import claiming
from organizations.recovery.adopting import adopt_organization
from organizations.recovery.claiming import claim_installation
from organizations.restoring import files, switching
from organizations.tenancy import storage
from tests.conftest import Company, Superuser
from tests.organizations.helpers import as_role_of, kill_in_a_fork

from .helpers import contents, execute_as_superuser, owner_of, row_of, the_restore, write_file
from .test_interrupted import dies

Status = Organization.Status


@pytest.fixture
def restored(made: Company, folder: Path) -> Company:
    """It has a file, and was restored: its database of before is kept, with that file."""
    write_file(made, "plan.txt", "now")
    making.back_up(made.organization)
    lifecycle.restore_organization(row_of(made))
    return made


def let_it_end() -> None:
    Restore.objects.keeping().update(kept_until=timezone.now() - timedelta(seconds=1))


def test_a_drop_takes_what_restores_kept_and_records_the_erasure_when_nothing_is_left(
    restored: Company, superuser: Superuser
) -> None:
    kept = the_restore(restored)
    database = kept.database_name
    execute_as_superuser(superuser, "ALTER DATABASE {} OWNER TO postgres", database)
    with pytest.raises(DatabaseKept):
        lifecycle.delete_organization(row_of(restored))
    assert row_of(restored).status == Status.DELETING
    assert not Erasure.objects.filter(organization_key=restored.organization.key).exists()
    assert owner_of(superuser, database) is not None

    execute_as_superuser(superuser, "ALTER DATABASE {} OWNER TO orgmgmt", database)
    assert restored.name in lifecycle.reconcile_organizations()["deleted"]
    assert Erasure.objects.filter(organization_key=restored.organization.key).exists()
    assert owner_of(superuser, database) is None
    assert not storage.folder_of(kept.key).exists()
    assert the_restore(restored).kept_until is None


def test_a_drop_in_the_middle_of_a_switch_takes_the_files_that_were_coming(
    made: Company, folder: Path, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(made, "plan.txt", "now")
    making.back_up(made.organization)
    dies(switching, "finish", after=False)(monkeypatch)
    kill_in_a_fork(lambda: lifecycle.restore_organization(row_of(made)))
    monkeypatch.undo()
    coming = the_restore(made)
    assert contents(coming.files) == {"plan.txt": "now"}
    lifecycle.delete_organization(row_of(made))
    assert owner_of(superuser, coming.database_name) is None
    assert list(storage.keys()) == []
    assert switching.finish_switches() == ([], [])


def test_what_was_kept_stays_while_another_process_has_the_lock_or_its_files_cannot_be_removed(
    restored: Company,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = the_restore(restored)
    let_it_end()
    left = [f"restores of organization {restored.organization.pk}"]
    with open_session(new=True) as other:
        # As a deletion, which drops it too, and has the lock of its name alone.
        assert other.try_lock(name_key(restored.name))
        assert switching.prune() == []
        assert the_restore(restored).kept_until is not None
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", _refuse)
        assert switching.prune() == left
    there = settings.MEDIA_ROOT
    settings.MEDIA_ROOT = tmp_path / "unmounted"
    assert switching.prune() == left
    settings.MEDIA_ROOT = there
    assert the_restore(restored).kept_until is not None
    assert contents(kept.key) == {"plan.txt": "now"}
    assert switching.prune() == []
    assert not storage.folder_of(kept.key).exists()


def test_unpacked_files_that_cannot_be_removed_keep_the_row_of_the_throw_away_database(
    made: Company, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(made, "plan.txt", "now")
    making.back_up(made.organization)
    dies(files, "unpack", after=True)(monkeypatch)
    kill_in_a_fork(lambda: lifecycle.restore_organization(row_of(made)))
    monkeypatch.undo()
    spare = SpareDatabase.objects.get(fingerprint="")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", _refuse)
        failed = lifecycle.reconcile_organizations()["failed"]
    assert failed == [f"spare database {spare.database_name}"]
    assert contents(spare.key) == {"plan.txt": "now"}
    assert lifecycle.reconcile_organizations()["failed"] == []
    assert not storage.folder_of(spare.key).exists()


def _refuse(folder: Path) -> None:
    raise PermissionError(13, "Permission denied")


def test_the_folder_of_a_key_that_an_organization_has_is_never_removed(
    restored: Company, company: Callable[..., Company]
) -> None:
    """adopt_org can have given it the key of what was kept."""
    kept, other = the_restore(restored), company()
    mine = Organization.objects.filter(pk=other.organization.pk)
    mine.update(key=kept.key)
    let_it_end()
    assert switching.prune() == []
    assert contents(kept.key) == {"plan.txt": "now"}
    mine.update(key=other.organization.key)


def test_a_kept_role_that_anothers_grant_holds_is_dropped_once_it_does_not(
    restored: Company, company: Callable[..., Company], superuser: Superuser
) -> None:
    kept, other = the_restore(restored), company()
    role = sql.Identifier(kept.role_name)
    with as_role_of(other.organization) as theirs:
        theirs.execute(sql.SQL("GRANT SELECT ON users TO {}").format(role))
    let_it_end()
    assert switching.prune() == []
    there = "SELECT FROM pg_roles WHERE rolname = %s"
    assert superuser.execute(there, (kept.role_name,)).fetchone() is not None
    with as_role_of(other.organization) as theirs:
        theirs.execute(sql.SQL("REVOKE ALL ON users FROM {}").format(role))
    assert f"role {kept.role_name}" in lifecycle.reconcile_organizations()["undone"]


# --- Acts beside ----------------------------------------------------------------------------------
def test_dropping_at_once_wants_a_backup_of_after_the_newest_restore(restored: Company) -> None:
    BackupRun.objects.update(verified_at=timezone.now())
    with pytest.raises(BackupMissing):
        lifecycle.delete_organization(row_of(restored), now=True)
    run = making.back_up(row_of(restored))
    BackupRun.objects.filter(pk=run.pk).update(verified_at=timezone.now())
    lifecycle.delete_organization(row_of(restored), now=True)


def test_nobody_is_brought_back_in_the_middle_of_a_switch(
    made: Company, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ORG_DELETION_GRACE_DAYS = 30
    write_file(made, "plan.txt", "then")
    making.back_up(made.organization)
    write_file(made, "plan.txt", "now")
    dies(switching, "finish", after=False)(monkeypatch)
    kill_in_a_fork(lambda: lifecycle.restore_organization(row_of(made)))
    monkeypatch.undo()
    lifecycle.delete_organization(row_of(made))
    with pytest.raises(OrganizationBusy):
        lifecycle.undelete_organization(row_of(made))
    assert switching.finish_switches()[1] == []
    lifecycle.undelete_organization(row_of(made))
    assert contents(made.organization.key) == {"plan.txt": "then"}


# --- check_orgs and older masters -----------------------------------------------------------------
def told(database: str) -> list[str]:
    """What check_orgs says about the database."""
    return [p.what for each in checking.check() if each.subject == database for p in each.problems]


def test_check_orgs_tells_of_a_kept_database_that_is_open_or_gone_and_reconciling_closes_it(
    restored: Company, superuser: Superuser
) -> None:
    kept = the_restore(restored)
    assert told(kept.database_name) == []
    execute_as_superuser(superuser, "ALTER DATABASE {} ALLOW_CONNECTIONS true", kept.database_name)
    (what,) = told(kept.database_name)
    assert what.endswith("but it is not out of reach")
    lifecycle.reconcile_organizations()
    assert told(kept.database_name) == []
    execute_as_superuser(superuser, "DROP DATABASE {}", kept.database_name)
    (what,) = told(kept.database_name)
    assert what.endswith("but it is missing or broken")


def test_an_older_master_that_takes_the_serving_database_for_a_kept_one_adopts_it(
    restored: Company, superuser: Superuser
) -> None:
    older = Organization.objects.filter(pk=restored.organization.pk).values().get()
    kept = Restore.objects.filter(pk=the_restore(restored).pk).values().get()
    lifecycle.undo_restore(row_of(restored))
    undone = the_restore(restored)
    # The master was dumped between the restore and its undo.
    undone.delete()
    Organization.objects.filter(pk=older["id"]).update(**older)
    Restore.objects.filter(pk=kept["id"]).update(**kept)

    serving = kept["database_name"]
    assert any("it was in use, and no row names it" in what for what in told(serving))
    adopted = adopt_organization(database=serving, name=restored.name, email="a@test.com")
    assert adopted.pk == older["id"]
    assert not Restore.objects.keeping().exists()
    assert any("a restore replaced it" in what for what in told(older["database_name"]))
    for place in (older, kept):
        execute_as_superuser(superuser, "DROP DATABASE {}", place["database_name"])
        execute_as_superuser(superuser, "DROP ROLE {}", place["role_name"])


def test_a_separate_installation_on_another_server_keeps_what_restores_kept(
    restored: Company,
) -> None:
    with transaction.atomic(using="default"):
        Installation.objects.update(system_identifier=1)
        claim_installation(new=True)
        assert the_restore(restored).kept_until is not None
        transaction.set_rollback(True, using="default")


def test_a_server_that_is_moved_in_the_middle_of_an_undo_finishes_it(
    restored: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then what comes back is let in, and still the application's."""
    dies(switching, "finish", after=False)(monkeypatch)
    kill_in_a_fork(lambda: lifecycle.undo_restore(row_of(restored)))
    monkeypatch.undo()
    role = row_of(restored).role_name

    def identity_of_it() -> Identity:
        return next(each for name, each, _ in claiming._identities() if name == role)

    with transaction.atomic(using="default"):
        right = identity_of_it()
        replace(right, databases=(1,)).write(role)  # As on the server it came from.
        Installation.objects.update(system_identifier=1)
        claim_installation(new=False)
        assert identity_of_it() == right
        transaction.set_rollback(True, using="default")
    assert switching.finish_switches()[1] == []
