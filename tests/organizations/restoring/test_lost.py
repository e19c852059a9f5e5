"""restore_orgs: restores organizations whose database and role are lost."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from organizations import lifecycle
from organizations.backups import making as backups
from organizations.backups import manifest
from organizations.errors import DatabaseThere
from organizations.models import AuditEntry, BackupRun, Organization, Restore
from organizations.postgres.sessions import open_session
from organizations.provisioning import spares
from organizations.restoring import fleet, switching
from organizations.tenancy import registry, storage
from tests.conftest import Company, Superuser
from tests.organizations.helpers import kill_in_a_fork

from .helpers import add, contents, emails, execute_as_superuser, me, row_of, write_file
from .test_interrupted import AFTER, BEFORE


def lose(superuser: Superuser, company: Company) -> None:
    """Its database, role and files are gone, as on a new server."""
    row = row_of(company)
    execute_as_superuser(superuser, "DROP DATABASE {} WITH (FORCE)", row.database_name)
    execute_as_superuser(superuser, "DROP ROLE {}", row.role_name)
    shutil.rmtree(storage.folder_of(row.key), ignore_errors=True)
    registry.forget(row.tenant.alias)


def restored(*names: str) -> dict[str, Any]:
    """What restore_orgs says, of what failed too."""
    out = StringIO()
    try:
        call_command("restore_orgs", *names, "--json", stdout=out, stderr=StringIO())
    except CommandError as error:
        assert error.returncode == 1
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


def test_what_is_lost_comes_back_and_what_is_there_stays(
    made: Company,
    alpha: Company,
    company: Callable[..., Company],
    folder: Path,
    superuser: Superuser,
    client: Client,
) -> None:
    without = company()
    write_file(made, "a/plan.txt", "then")
    add(made, "ada@test.com")
    token = made.token(client)
    run = backups.back_up(made.organization)
    before = row_of(alpha)
    lose(superuser, made)
    lose(superuser, without)

    said = restored(made.name, alpha.name, without.name)

    results = {each["organization_id"]: each for each in said["restores"]}
    good, bad = results[made.organization.pk], results[without.organization.pk]
    assert (said["there"], said["failed"], len(results)) == (1, 1, 2)
    assert (good["folder"], good["error"]) == (run.folder, "")
    assert bad["code"] == "backup_not_found"
    assert row_of(alpha).place == before.place
    assert emails(made) == [made.email, "ada@test.com"]
    assert contents(made.organization.key) == {"a/plan.txt": "then"}
    assert me(client, token) == 401
    assert me(client, made.token(client)) == 200
    assert restored(made.name, alpha.name) == {"restores": [], "failed": 0, "there": 2}
    Organization.objects.filter(pk=without.organization.pk).update(status="deleted")


@pytest.mark.parametrize("step", ["the dump is restored", "the switch is committed"])
def test_it_goes_on_after_a_kill(
    made: Company,
    folder: Path,
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    write_file(made, "plan.txt", "then")
    backups.back_up(made.organization)
    lose(superuser, made)
    (BEFORE | AFTER)[step](monkeypatch)
    kill_in_a_fork(
        lambda: lifecycle.restore_organization(row_of(made), only_lost=True)  # As each thread does.
    )
    monkeypatch.undo()
    again = restored(made.name)
    assert again["failed"] == 0
    assert again["there"] == (step in AFTER)
    assert emails(made) == [made.email]
    assert contents(made.organization.key) == {"plan.txt": "then"}
    assert Restore.objects.filter(state=Restore.State.DONE).count() == 1
    lifecycle.reconcile_organizations()


def test_what_a_killed_restore_has_left_is_not_taken_for_the_organization(
    made: Company, folder: Path, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is not cleaned up before, since a worker makes spare databases right now."""
    backups.back_up(made.organization)
    lose(superuser, made)
    BEFORE["the dump is restored"](monkeypatch)
    kill_in_a_fork(lambda: lifecycle.restore_organization(row_of(made), only_lost=True))
    monkeypatch.undo()
    monkeypatch.setattr(fleet, "_CLEANED_WAIT", 0.1)
    with open_session(new=True) as worker:
        worker.lock(spares.LOCK, name="spare databases", timeout_seconds=5)
        said = restored(made.name)
    assert (said["there"], said["failed"], len(said["restores"])) == (0, 0, 1)
    assert emails(made) == [made.email]
    lifecycle.reconcile_organizations()


def test_a_switch_that_the_masters_dump_cut_off_hinders_no_restore(
    made: Company, folder: Path, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its database nor its files are on the new server."""
    write_file(made, "plan.txt", "then")
    backups.back_up(made.organization)
    AFTER["the switch is committed"](monkeypatch)
    kill_in_a_fork(lambda: lifecycle.restore_organization(row_of(made)))
    monkeypatch.undo()
    (cut,) = Restore.objects.filter(state=Restore.State.SWITCHING)
    lose(superuser, made)
    execute_as_superuser(superuser, "DROP DATABASE {} WITH (FORCE)", cut.database_name)
    execute_as_superuser(superuser, "DROP ROLE {}", cut.role_name)
    shutil.rmtree(storage.folder_of(cut.files))
    assert restored(made.name)["failed"] == 0
    assert (emails(made), contents(made.organization.key)) == ([made.email], {"plan.txt": "then"})
    cut.refresh_from_db()
    assert (cut.state, cut.error_code) == (Restore.State.DONE, "database_gone")


def test_files_that_are_not_lost_stay_and_what_they_lack_comes_from_the_backup(
    made: Company, folder: Path, superuser: Superuser
) -> None:
    write_file(made, "a/plan.txt", "then")
    write_file(made, "a/lost.txt", "then")
    backups.back_up(made.organization)
    write_file(made, "a/plan.txt", "now")
    write_file(made, "new.txt", "now")
    now = storage.folder_of(made.organization.key)
    (now / "a" / "lost.txt").unlink()
    kept = now.rename(now.with_name("kept"))
    lose(superuser, made)
    kept.rename(now)
    assert restored(made.name)["failed"] == 0
    Restore.objects.update(kept_until=timezone.now() - timedelta(seconds=1))
    assert switching.prune() == []
    files = {"a/plan.txt": "now", "a/lost.txt": "then", "new.txt": "now"}
    assert contents(made.organization.key) == files
    assert set(storage.keys()) == {made.organization.key}


def test_a_backup_that_the_master_does_not_know_is_found(
    made: Company, alpha: Company, folder: Path, superuser: Superuser
) -> None:
    backups.back_up(made.organization)
    add(made, "ada@test.com")
    newest = backups.back_up(made.organization)
    foreign = backups.back_up(alpha.organization)
    shutil.copytree(folder / foreign.folder, folder / made.organization.key / "another")
    # One that cannot be read hides no other.
    (folder / made.organization.key / "unreadable" / manifest.NAME).mkdir(parents=True)
    newest.delete()
    lose(superuser, made)
    (result,) = restored(made.name)["restores"]
    assert (result["folder"], result["error"]) == (newest.folder, "")
    assert emails(made) == [made.email, "ada@test.com"]
    found = BackupRun.objects.get(key=newest.key)
    assert (found.started_at, found.bytes) == (newest.started_at, newest.bytes)
    assert AuditEntry.objects.filter(act="backup.found", facts__backup=newest.key).exists()
    assert not BackupRun.objects.filter(folder__endswith="another").exists()


def test_nothing_is_restored_where_something_of_it_is_there(
    made: Company, folder: Path, superuser: Superuser
) -> None:
    """A restore that the master does not know has given it another role and database."""
    backups.back_up(made.organization)
    now = row_of(made)
    row = Organization.objects.filter(pk=now.pk)
    for change in (
        {"database_name": "org_lost", "role_name": "orgrole_lost"},
        {"database_name": "org_lost"},
        {"role_name": "orgrole_lost"},
    ):
        row.update(**change)
        assert restored(made.name) == {"restores": [], "failed": 0, "there": 1}, change
        with pytest.raises(DatabaseThere):
            lifecycle.restore_organization(row_of(made), only_lost=True)
        row.update(database_name=now.database_name, role_name=now.role_name)
    assert not Restore.objects.exists()


def test_no_database_gets_a_name_that_another_lost_one_had(
    made: Company, company: Callable[..., Company], folder: Path, superuser: Superuser
) -> None:
    """It had another name, and `made` has taken that since."""
    renamed = company()
    for each in (made, renamed):
        backups.back_up(row_of(each))
        lose(superuser, each)
    name = made.organization.database_name
    Organization.objects.filter(pk=made.organization.pk).update(database_name=f"{name}_123456")
    Organization.objects.filter(pk=renamed.organization.pk).update(database_name=name)
    assert restored(made.name, renamed.name)["failed"] == 0
    assert (emails(made), emails(renamed)) == ([made.email], [renamed.email])
    assert row_of(made).database_name != name
