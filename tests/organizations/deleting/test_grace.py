"""A deleted organization is closed at once, kept aside, and dropped after its grace."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import DatabaseError
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.background import pruning
from organizations.backups import making, retention
from organizations.deleting import delete as deleting
from organizations.errors import (
    BackupMissing,
    BackupStorageFailed,
    DatabaseKept,
    OrganizationExists,
    OrganizationNotFound,
)
from organizations.models import BackupRun, Erasure, FormerName, Organization
from organizations.postgres import aside, identity
from organizations.postgres.identity import Identity, State
from organizations.postgres.sessions import open_session
from organizations.provisioning.undoing import expected, undo
from organizations.tenancy import storage
from tests.conftest import PASSWORD, Company, Superuser, leftovers
from tests.organizations.helpers import (
    as_role_of,
    begin_deletion,
    kill_in_a_fork,
    kill_this_process,
)

from .helpers import Status, delete, entries, is_aside, let_it_end, problems, row_of

ME = "/api/v1/me/"
JSON = "application/json"


def test_a_deletion_closes_at_once_and_keeps_everything(
    company: Callable[..., Company], client: Client
) -> None:
    made = company("Kept Ltd")
    token = {"Authorization": f"Bearer {made.token(client)}"}
    with tenancy.override(made.tenant):
        default_storage.save("plan.txt", ContentFile(b"ours"))
    assert client.get(ME, headers=token).status_code == 200
    row = delete(made)
    named = {"organization_name": "Kept Ltd"}
    assert client.get(ME, headers=token).status_code == 401
    assert client.post("/org/get", named, content_type=JSON).status_code == 404
    with tenancy.override(made.tenant), pytest.raises((DatabaseError, OrganizationNotFound)):
        User.objects.get()

    assert (row.status, row.deletion != "") == (Status.TRASHED, True)
    assert row.kept_until is not None
    assert abs(row.kept_until - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)
    assert is_aside(made) and problems(made) == []
    assert storage.folder_of(row.key).is_dir()
    (entry,) = entries(made, "organization.trashed")
    assert entry.facts == {"kept_until": row.kept_until.isoformat(), "name_freed": False}
    # Again, and by whoever cleans up.
    assert delete(made).kept_until == row.kept_until
    outcome = lifecycle.reconcile_organizations()
    assert not any(made.name in names for names in outcome.values())
    assert pruning.prune() == []
    assert is_aside(made) and len(entries(made, "organization.trashed")) == 1


def test_its_name_is_held_or_freed(company: Callable[..., Company], client: Client) -> None:
    made = company("Named Ltd")
    lifecycle.rename_organization(row_of(made), name="Renamed Ltd")
    delete(made)
    for name in ("renamed-ltd", "Named Ltd"):
        with pytest.raises(OrganizationExists):
            company(name)
        sign_up = {"organization_name": name, "email": "a@test.com", "password": PASSWORD}
        later = {"Prefer": "respond-async"}
        response = client.post("/org/create", sign_up, content_type=JSON, headers=later)
        assert response.status_code == 409
    assert is_aside(made), "whoever signs up undoes nothing"
    row = delete(made, free_name=True)
    assert (row.name, row.status) == ("Renamed Ltd", Status.TRASHED)
    assert not FormerName.objects.filter(organization=row).exists()
    assert len(entries(made, "organization.name_freed")) == 1
    others = [company("Renamed Ltd"), company("Named Ltd")]
    assert [each.organization.slug for each in others] == ["renamed-ltd", "named-ltd"]
    assert delete(others[0], free_name=True).slug != delete(made, free_name=True).slug
    assert company("Renamed Ltd").organization.slug == "renamed-ltd"


def test_it_is_dropped_when_its_grace_is_over(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    ended, waits = company("Ended Ltd"), company()
    with tenancy.override(ended.tenant):
        default_storage.save("plan.txt", ContentFile(b"ours"))
    closed_at = delete(ended).status_changed_at
    delete(waits)
    let_it_end(ended)
    assert lifecycle.drop_expired() == []
    row = row_of(ended)
    assert (row.status, row.sealed_password, row.admin_email) == (Status.DELETED, "", "")
    assert not storage.folder_of(row.key).exists()
    assert leftovers(superuser) == (set(), set())
    assert is_aside(waits) and row_of(waits).status == Status.TRASHED
    erased = Erasure.objects.get(organization_key=row.key)
    assert (erased.organization_id, erased.deleted_at) == (row.pk, closed_at)
    assert (erased.erased_at > closed_at, erased.backups_until) == (True, None)
    assert len(entries(ended, "organization.deleted")) == 1
    company("Ended Ltd")


def test_without_a_grace_or_without_a_database_it_is_dropped_at_once(
    company: Callable[..., Company], settings: Settings, superuser: Superuser
) -> None:
    empty, kept = company(), company()
    superuser.execute(f'DROP DATABASE "{empty.organization.database_name}" WITH (FORCE)'.encode())
    assert delete(empty).status == Status.DELETED
    delete(kept)
    settings.ORG_DELETION_GRACE_DAYS = 0
    assert delete(kept).status == Status.DELETED
    assert delete(company()).status == Status.DELETED
    assert leftovers(superuser) == (set(), set())


def test_dropping_at_once_wants_a_verified_backup_of_lately(
    company: Callable[..., Company],
) -> None:
    made = company()
    with pytest.raises(BackupMissing, match="no verified backup from the last 24 hours"):
        delete(made, now=True)
    run = making.back_up(row_of(made))
    with pytest.raises(BackupMissing):
        delete(made, now=True)
    long_ago = timezone.now() - timedelta(hours=25)
    BackupRun.objects.filter(pk=run.pk).update(verified_at=timezone.now(), started_at=long_ago)
    with pytest.raises(BackupMissing):
        delete(made, now=True)
    assert row_of(made).status == Status.ACTIVE
    # Nothing has changed since it was closed.
    delete(made)
    closed_at = timezone.now() - timedelta(days=20)
    Organization.objects.filter(pk=made.organization.pk).update(status_changed_at=closed_at)
    BackupRun.objects.filter(pk=run.pk).update(started_at=closed_at - timedelta(hours=25))
    with pytest.raises(BackupMissing):
        delete(made, now=True)
    BackupRun.objects.filter(pk=run.pk).update(started_at=closed_at - timedelta(hours=23))
    assert delete(made, now=True).status == Status.DELETED
    other = company()
    assert delete(other, now=True, without_backup=True).status == Status.DELETED


def test_backups_outlive_it_as_long_as_its_erasure_record_says(
    company: Callable[..., Company], settings: Settings
) -> None:
    settings.BACKUP_BEFORE_DROP = True
    settings.BACKUP_KEEP_DELETED_DAYS = 10
    made = company()
    first = making.back_up(row_of(made))
    delete(made)
    # Nobody's last good one goes while it can still come back.
    long_ago = timezone.now() - timedelta(days=3_000)
    BackupRun.objects.filter(pk=first.pk).update(started_at=long_ago)
    assert pruning.prune() == [] and BackupRun.objects.filter(pk=first.pk).exists()

    let_it_end(made)
    assert pruning.prune() == []
    assert row_of(made).status == Status.DELETED
    last = BackupRun.objects.filter(organization_key=made.organization.key)[0]
    assert (last.state, last.pk != first.pk) == (BackupRun.State.GOOD, True)
    erased = Erasure.objects.get(organization_key=made.organization.key)
    assert erased.backups_until == erased.erased_at + timedelta(days=10)
    (entry,) = entries(made, "organization.deleted")
    assert entry.facts == {"backups_until": erased.backups_until.isoformat()}

    BackupRun.objects.update(started_at=long_ago)
    assert pruning.prune() == []
    assert BackupRun.objects.filter(pk=last.pk).exists()
    Erasure.objects.update(backups_until=timezone.now() - timedelta(minutes=1))
    assert pruning.prune() == []
    assert not BackupRun.objects.filter(pk=last.pk).exists()
    erased.refresh_from_db()
    assert erased.backups_gone_at is not None


def test_the_last_backup_opens_no_old_password_and_needs_none(
    company: Callable[..., Company], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BACKUP_BEFORE_DROP = True
    made, lost = company(), company()
    old = delete(made)
    delete(lost)
    Organization.objects.filter(pk=lost.organization.pk).update(sealed_password="unreadable")
    let_it_end(made)
    let_it_end(lost)
    back_up = making.back_up

    def looking(organization: Organization, **how: Any) -> BackupRun:
        with pytest.raises(psycopg.OperationalError, match="password"), as_role_of(old):
            pytest.fail("it logs in with the password of before")
        return back_up(organization, **how)

    monkeypatch.setattr(making, "back_up", looking)
    assert pruning.prune() == []
    assert {row_of(each).status for each in (made, lost)} == {Status.DELETED}
    assert BackupRun.objects.filter(state=BackupRun.State.GOOD).count() == 2


def test_backups_stay_without_a_row_until_an_erasure_record_says_otherwise(
    company: Callable[..., Company], settings: Settings
) -> None:
    """An adoption that failed has removed the row."""
    settings.BACKUP_KEEP_WEEKLY = settings.BACKUP_KEEP_MONTHLY = 0
    run = making.back_up(company().organization)
    run.started_at = timezone.now() - timedelta(days=3_000)
    run.organization_key = "0" * 32
    run.save()
    assert retention.surplus("0" * 32) == []
    Erasure.objects.create(organization_id=1, organization_key="0" * 32, deleted_at=timezone.now())
    assert retention.surplus("0" * 32) == [run]


def test_what_cannot_be_backed_up_once_more_is_not_dropped(
    company: Callable[..., Company], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BACKUP_BEFORE_DROP = True
    made = company()
    delete(made)
    let_it_end(made)

    def full(*given: object, **named: object) -> None:
        raise BackupStorageFailed(made.name, "the disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(making, "back_up", full)
        (left,) = pruning.prune()
    assert left == f"the deleted organization {made.organization.pk}"
    assert is_aside(made) and row_of(made).status == Status.TRASHED
    assert pruning.prune() == [] and row_of(made).status == Status.DELETED


# --- Killed in between, and other code ------------------------------------------------------------
def test_a_killed_deletion_is_finished_by_reconciling(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = company()
    with monkeypatch.context() as patched:
        patched.setattr(deleting, "fence_by", lambda *_: kill_this_process())
        kill_in_a_fork(lambda: delete(made))
    assert row_of(made).status == Status.TRASHED and not is_aside(made)
    assert problems(made) == ["deleted and kept, but it is not out of reach"]
    assert lifecycle.reconcile_organizations()["kept"] == [made.name]
    assert is_aside(made) and problems(made) == []


@pytest.mark.parametrize("dies", ["before the backup", "after the backup", "while it drops"])
def test_a_killed_drop_ends_kept_or_dropped(
    company: Callable[..., Company],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    superuser: Superuser,
    dies: str,
) -> None:
    settings.BACKUP_BEFORE_DROP = True
    made = company()
    delete(made)
    let_it_end(made)
    with monkeypatch.context() as patched:
        if dies == "before the backup":
            patched.setattr(making, "back_up", lambda *_, **__: kill_this_process())
        elif dies == "after the backup":
            patched.setattr(aside, "put_aside", lambda *_, **__: kill_this_process())
        else:
            patched.setattr(deleting, "undo", lambda *_: kill_this_process())
        kill_in_a_fork(lifecycle.drop_expired)
    outcome = lifecycle.reconcile_organizations()
    if dies == "while it drops":
        assert outcome["deleted"] == [made.name]
    else:
        assert outcome["kept"] == [made.name] and is_aside(made)
        assert lifecycle.drop_expired() == []
    assert row_of(made).status == Status.DELETED
    assert BackupRun.objects.filter(organization_key=made.organization.key).count() == 1
    assert leftovers(superuser) == (set(), set())


def test_nothing_is_dropped_that_the_role_does_not_agree_on(
    company: Callable[..., Company],
) -> None:
    made = company()
    row = delete(made)
    let_it_end(made)
    with open_session() as session:
        mine = identity.require(session, expected(row))
        for other in (
            replace(mine, deletion="e" * 32),
            replace(mine, state=State.LET_IN, deletion=""),
            replace(mine, databases=(1,)),
            replace(mine, key="f" * 32),
        ):
            session.execute(other.comment(row.role_name))
            assert lifecycle.drop_expired() == [f"the deleted organization {row.pk}"]
            assert row_of(made).status == Status.TRASHED and is_aside(made)
        session.execute(mine.comment(row.role_name))
    assert lifecycle.drop_expired() == []


def test_code_that_does_not_know_the_status_drops_nothing(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the row for half made, cannot read the identity, and wants what its role owns."""
    made = company()
    row = delete(made)
    assert row not in Organization.objects.unfinished()
    as_before = replace(expected(row), state=State.MADE, deletion="", was_aside=False)
    with open_session() as session:
        with pytest.raises(DatabaseKept, match="the identity says aside"):
            identity.certain(session, as_before)
        read = Identity.read.__func__  # type: ignore[attr-defined]
        monkeypatch.setattr(
            Identity,
            "read",
            classmethod(lambda cls, said: None if '"aside"' in (said or "") else read(cls, said)),
        )
        with pytest.raises(DatabaseKept, match="no identity yet"):
            identity.certain(session, as_before)
    monkeypatch.undo()
    # And one that begins to drop what was aside: old code finds another owner.
    begin_deletion(row)
    with open_session() as session, pytest.raises(DatabaseKept, match="belongs to orgmgmt"):
        identity.certain(session, replace(expected(row_of(made)), was_aside=False))


def test_undoing_leaves_a_kept_one_alone(company: Callable[..., Company]) -> None:
    made = company()
    row = delete(made)
    with open_session() as session:
        undo(session, row)
    assert row_of(made).status == Status.TRASHED and is_aside(made)


def test_a_sign_up_under_the_name_of_a_killed_deletion_is_refused(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = company()
    with monkeypatch.context() as patched:
        patched.setattr(aside, "put_aside", lambda *_, **__: kill_this_process())
        kill_in_a_fork(lambda: delete(made))
    with pytest.raises(OrganizationExists):
        lifecycle.create_organization(name=made.name, email="a@test.com", password=PASSWORD)
    assert row_of(made).status == Status.TRASHED
