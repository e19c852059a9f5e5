"""An archived organization is its row, its role and a verified backup, and comes back whole."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from psycopg import sql
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.archiving import reconciling
from organizations.background import enqueueing
from organizations.backups import fleet, making, retention, runs, verifying
from organizations.errors import (
    ArchiveFailed,
    BackupDamaged,
    BackupNeeded,
    BackupNotVerified,
    BackupStorageUnknown,
    DatabaseKept,
    OrganizationArchived,
    OrganizationExists,
    OrganizationNotFound,
    WrongState,
)
from organizations.models import BackupRun, Erasure, Organization, random_key
from organizations.postgres.identity import State, find
from organizations.postgres.sessions import open_session
from organizations.tenancy import storage
from tests.accounts.link_helpers import ask as ask_for_link
from tests.conftest import PASSWORD, Company, Superuser
from tests.organizations.backups.helpers import LARGE
from tests.organizations.jobs.helpers import clear, job, work
from tests.organizations.restoring.helpers import add, contents, emails, me, row_of, write_file

from .helpers import Status, acts, archive, on_server, problems, thaw

JSON = "application/json"


def test_it_comes_back_whole_from_the_backup_alone(made: Company, client: Client) -> None:
    add(made, "second@test.com")
    third = add(made, "third@test.com")
    number = third.pk
    with tenancy.override(made.tenant):
        third.delete()
    token, before = made.token(client), row_of(made)
    assert me(client, token) == 200  # Over a connection that is kept.
    lifecycle.suspend_organization(row_of(made), reason="unpaid", message="Write to us.")
    write_file(made, "drawing.txt", LARGE)

    row = archive(made)

    assert (row.status, row.archived_from, row.sealed_password) == ("archived", "suspended", "")
    assert row.archived_backup is not None and row.archived_backup.verified_at is not None
    found = on_server(row)
    assert (found.oid, found.has_role) == (None, True)
    assert found.identity is not None
    assert (found.identity.state, found.identity.databases) == (State.ARCHIVED, ())
    assert storage.folders_of(row.key) == [] and problems(made) == []
    refused = client.get("/api/v1/me/", headers={"Authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["code"]) == (403, "organization_archived")
    lifecycle.reconcile_organizations()
    assert on_server(row_of(made)).has_role

    row = thaw(made)

    assert (row.status, row.status_reason, row.status_message) == (
        *("suspended", "unpaid", "Write to us."),
    )
    assert (row.archived_backup, row.archived_from) == (None, "")
    assert row.database_name == before.database_name and row.role_name != before.role_name
    assert not on_server(before).has_role
    lifecycle.resume_organization(row)
    assert emails(made) == [made.email, "second@test.com"]
    assert add(made, "fourth@test.com").pk == number + 1  # No id means two people.
    assert contents(row.key) == {"deep/plan.txt": "ours", "drawing.txt": LARGE}
    assert me(client, token) == 401 and me(client, made.token(client)) == 200
    assert problems(made) == []
    assert [act for act in acts(made) if "archiv" in act or "thaw" in act] == [
        "organization.archiving",
        "organization.archived",
        "organization.thawed",
    ]


def refuse(error: Exception) -> Callable[..., Any]:
    def raising(*arguments: Any, **named: Any) -> Any:
        raise error

    return raising


FAILURES: dict[str, tuple[Any, str, Exception]] = {
    "the backup": (making, "back_up", ArchiveFailed("X", "no room.")),
    "its verification": (verifying, "verify", BackupDamaged("x", "a byte")),
    "the last look at it": (verifying, "check", BackupDamaged("x", "gone since")),
}


def test_what_fails_before_the_drop_brings_it_back_as_it_was(
    made: Company, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = made.token(client)
    verify = verifying.verify

    def without_check(*arguments: Any, **named: Any) -> None:
        with monkeypatch.context() as before:
            before.setattr(verifying, "check", check)
            verify(*arguments, **named)

    check = verifying.check
    for number, (what, (owner, name, error)) in enumerate(FAILURES.items(), start=1):
        with monkeypatch.context() as patch:
            if what == "the last look at it":
                patch.setattr(verifying, "verify", without_check)
            patch.setattr(owner, name, refuse(error))
            with pytest.raises(type(error)):
                archive(made)
        row = row_of(made)
        found = (row.status, row.archived_from, row.deletion, row.archived_backup)
        assert found == ("active", "", "", None), what
        # With the log-ins of before: nothing was changed.
        assert me(client, token) == 200 and emails(made) == [made.email], what
        assert contents(row.key) == {"deep/plan.txt": "ours"}, what
        assert problems(made) == [], what
        assert acts(made).count("organization.archive_failed") == number, what
        assert "organization.archived" not in acts(made), what


def test_a_file_that_the_backup_does_not_hold_as_it_is_keeps_all(
    made: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(made, "deep/plan.txt", f"{LARGE}ours")
    verify = verifying.verify

    def then_write(*arguments: Any, **named: Any) -> None:
        verify(*arguments, **named)
        write_file(made, "deep/plan.txt", f"{LARGE}0urs")

    monkeypatch.setattr(verifying, "verify", then_write)
    with pytest.raises(BackupNotVerified, match="holds 0 of the organization's"):
        archive(made)
    assert contents(made.organization.key) == {"deep/plan.txt": f"{LARGE}0urs"}
    assert row_of(made).status == Status.ACTIVE and emails(made) == [made.email]
    assert problems(made) == []


def test_every_other_act_on_it_is_refused_with_its_state(
    made: Company, client: Client, settings: Settings, tmp_path: Path
) -> None:
    row = archive(made)
    named = [row.name]
    for words in (
        ["suspend_org", *named],
        ["resume_org", *named],
        ["rename_org", *named, "Other"],
        ["restore_org", *named, "--yes"],
        ["clone_org", *named, "Copy"],
        ["backup_orgs", *named],
        ["migrate_orgs", "--org", *named],
        ["query_orgs", "SELECT 1", *named],
        ["export_org", *named, "--output", str(tmp_path / "x.zip")],
        ["archive_org", *named],
    ):
        with pytest.raises(CommandError, match="is archived[.;]"):
            call_command(*words)
    with pytest.raises(CommandError, match="is archived. Its admin can bring it back"):
        call_command("org_command", *named, "check")
    with pytest.raises(OrganizationArchived), tenancy.override(row.tenant):
        User.objects.count()
    assert row_of(made).status == Status.ARCHIVED
    call_command("verify_backups", *named)  # Its backup can be looked after.

    # A login is told so too, unless names are secret.
    login = {"organization": made.name, "email": made.email, "password": PASSWORD}
    path = "/api/v1/auth/token/"
    answer = client.post(path, login, content_type=JSON)
    assert (answer.status_code, answer.json()["code"]) == (403, "organization_archived")
    assert "/api/v1/org/thaw-link/" in answer.json()["detail"]
    settings.ORG_PUBLIC_LOOKUP, settings.LOGIN_FLOOR_MS = "off", 0
    unknown = client.post(path, {**login, "organization": "Nobody"}, content_type=JSON)
    answer = client.post(path, login, content_type=JSON)
    assert (answer.status_code, answer.json()) == (unknown.status_code, unknown.json())
    assert answer.status_code == 401


def test_its_backup_is_never_pruned_and_cannot_be_removed(
    made: Company, settings: Settings
) -> None:
    row = archive(made)
    run = row.archived_backup
    assert run is not None
    # Two newer ones, as a thaw of another master's could leave.
    for _ in range(2):
        newer = BackupRun.objects.get(pk=run.pk)
        newer.pk, newer.key, newer.folder = None, random_key(), ""
        newer.started_at = timezone.now()
        newer.save(force_insert=True)
    settings.BACKUP_KEEP_DAILY = settings.BACKUP_KEEP_WEEKLY = settings.BACKUP_KEEP_MONTHLY = 0
    assert run not in retention.surplus(row.key)
    with pytest.raises(BackupNeeded):
        runs.remove(run)
    BackupRun.objects.filter(pk=run.pk).update(state=BackupRun.State.BAD)
    (result,) = fleet.verify([row_of(made)], parallel=1)
    assert (result.folder, result.code) == (run.folder, "")
    run.refresh_from_db()
    assert run.state == BackupRun.State.GOOD
    BackupRun.objects.exclude(pk=run.pk).delete()
    assert thaw(made).status == Status.ACTIVE


def test_its_name_stays_taken_and_another_gets_its_database_name(
    made: Company, company: Callable[..., Company]
) -> None:
    old = made.name
    lifecycle.rename_organization(row_of(made), name=f"{old} renamed")
    row = row_of(made)
    row.former_names.all().delete()
    row = archive(made)
    with pytest.raises(OrganizationExists):
        company(row.name)
    other = company(old)
    assert other.organization.database_name != row.database_name
    assert thaw(made).database_name != other.organization.database_name
    assert emails(made) == [made.email] == emails(other)


def test_a_deletion_keeps_the_archive_and_an_undeletion_brings_it_back_archived(
    made: Company,
) -> None:
    before = archive(made)
    lifecycle.delete_organization(row_of(made))
    row = row_of(made)
    assert (row.status, row.status_before) == ("trashed", "archived")
    assert problems(made) == []
    lifecycle.reconcile_organizations()
    lifecycle.undelete_organization(row_of(made), name=f"{made.name} again")
    row = row_of(made)
    assert (row.status, row.archived_backup) == ("archived", before.archived_backup)
    assert problems(made) == []
    assert thaw(made).status == Status.ACTIVE and emails(made) == [made.email]


def test_a_deletion_at_once_leaves_a_true_erasure_and_frees_the_backup(made: Company) -> None:
    row = archive(made)
    lifecycle.delete_organization(row, now=True)  # Its backup is verified.
    erased = Erasure.objects.get(organization_key=row.key)
    assert erased.backups_until is not None
    row = row_of(made)
    assert (row.status, row.archived_backup) == ("deleted", None)
    assert not on_server(row).has_role
    with pytest.raises(OrganizationNotFound):
        lifecycle.find_organization(made.name)
    Erasure.objects.update(backups_until=timezone.now())
    assert retention.prune() == []
    assert not BackupRun.objects.filter(organization_key=row.key).exists()
    Erasure.objects.all().delete()


def test_its_own_jobs_wait_and_an_operators_are_done(made: Company) -> None:
    clear()
    ask_for_link(made, made.email)
    number = ProcrastinateJob.objects.get(task_name="send_mail").pk
    rows = Organization.objects.filter(pk=made.organization.pk)
    enqueueing.back_up(rows)
    made_runs = BackupRun.objects.count()
    archive(made)
    work()
    assert BackupRun.objects.count() == made_runs + 1  # The archive's.
    waiting = job(number).scheduled_at  # Its thaw wakes it; else it would look for years.
    assert waiting is not None and waiting > timezone.now() + timedelta(hours=12)
    thaw(made)
    waiting = job(number).scheduled_at
    assert waiting is not None and waiting <= timezone.now()
    work()
    assert job(number).status == "succeeded"
    clear()


def test_an_archive_needs_an_active_or_suspended_one_and_a_thaw_an_archived_one(
    made: Company, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(WrongState, match="is active; it must be archived"):
        thaw(made)
    there = settings.MEDIA_ROOT
    settings.MEDIA_ROOT = tmp_path / "not mounted"
    with pytest.raises(ArchiveFailed, match="its files are not on this host"):
        archive(made)
    settings.MEDIA_ROOT = there
    acts_before = acts(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "require_storage", refuse(BackupStorageUnknown("x")))
        with pytest.raises(BackupStorageUnknown):
            archive(made)
    assert acts(made) == acts_before  # Nobody was shut out.
    lifecycle.delete_organization(row_of(made))
    with pytest.raises(WrongState, match="is trashed; it must be active or suspended"):
        archive(made)


def test_what_restores_kept_goes_with_the_database(made: Company, superuser: Superuser) -> None:
    making.back_up(row_of(made))
    kept = lifecycle.restore_organization(row_of(made))
    database = kept.database_name
    role = sql.Identifier(kept.role_name)
    with open_session() as session:
        found = find(session, role=kept.role_name, database=database)
    assert found.identity is not None
    superuser.execute(sql.SQL("COMMENT ON ROLE {} IS 'a stranger''s'").format(role))
    with pytest.raises(DatabaseKept):
        archive(made)  # It is asked before anything is dropped.
    assert emails(made) == [made.email]
    superuser.execute(found.identity.comment(kept.role_name))
    archive(made)
    kept.refresh_from_db()
    assert (kept.database_name, kept.kept_until) == ("", None)
    query = "SELECT count(*) FROM pg_database WHERE datname = %s"
    assert superuser.execute(query, (database,)).fetchone() == (0,)
    kept.delete()
    assert reconciling.reconcile(wait_seconds=0) == ([], [], [], [])


def test_files_that_cannot_be_removed_do_not_keep_it_from_being_thawed(
    made: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, key = storage.remove, made.organization.key
    monkeypatch.setattr(storage, "remove", lambda each: each != key and remove(each))
    row = archive(made)
    assert (row.status, contents(row.key)) == (Status.ARCHIVED, {"deep/plan.txt": "ours"})
    assert made.name in lifecycle.reconcile_organizations()["failed"]
    monkeypatch.undo()
    assert thaw(made).status == Status.ACTIVE
    assert contents(row.key) == {"deep/plan.txt": "ours"}
