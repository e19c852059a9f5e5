"""restore_org --beside: a read-only organization from a backup, dropped after some days."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts import models, services
from accounts.hashers import Argon2idHasher
from accounts.models import LoginSession, User
from organizations import lifecycle, master_directory, tenancy
from organizations.background import archives, enqueueing, pruning
from organizations.backups import making as backups
from organizations.checks.backups import check_backups
from organizations.deleting import delete
from organizations.errors import (
    OrganizationExists,
    OrganizationReadOnly,
    TooManyOrganizations,
    WrongState,
)
from organizations.inspecting import checking
from organizations.models import AuditEntry, Erasure, Organization, Restore
from organizations.postgres import identity
from organizations.postgres.sessions import open_session
from organizations.provisioning.undoing import expected
from organizations.tenancy import pool
from tests.accounts.helpers import bearer, json_of, refresh, send
from tests.conftest import PASSWORD, Company, Superuser, leftovers

from .helpers import contents, emails, look_at, row_of, whole

Status = Organization.Status


def assert_read_only(answer: Any) -> None:
    assert json_of(answer, 403)["code"] == "organization_read_only"
    assert "It is read-only" in answer.json()["detail"]


@pytest.mark.urls("tests.isolation.urls")
def test_its_people_look_at_a_backup_beside_and_change_nothing(
    backed_up: Company, client: Client
) -> None:
    token = backed_up.token(client)
    before = whole(backed_up)

    looked = look_at(backed_up)

    assert whole(backed_up) == before
    row = looked.organization
    run = row_of(backed_up)
    assert row.name == f"{run.name} as of {Restore.objects.get().backed_up_at:%Y-%m-%d %H:%M} UTC"
    assert (row.status, row.cloned_from) == (Status.ACTIVE, run.pk)
    assert row.read_only_until is not None
    assert timedelta(days=6.9) < row.read_only_until - timezone.now() < timedelta(days=7)
    assert (emails(looked), contents(row.key)) == ([backed_up.email], {"plan.txt": "then"})
    (finding,) = checking.check([row.pk])
    assert finding.problems == ()

    assert bearer(token).get("/api/v1/me/").json()["email"] == backed_up.email, "still the source's"
    login = looked.login(client)
    here = bearer(str(login["access"]))
    (user,) = json_of(here.get("/api/v1/users/"))["results"]
    shown = json_of(here.get("/api/v1/organization/"))
    assert (shown["is_clone"], shown["read_only_until"][:19]) == (
        True,
        row.read_only_until.isoformat()[:19],
    )
    new = {"email": "new@test.com", "password": PASSWORD}
    passwords = {"current_password": PASSWORD, "new_password": "another-password-1"}
    for _ in range(2):
        assert_read_only(send(here, "post", "/api/v1/users/", new))
        assert_read_only(send(here, "post", "/api/v1/me/password/", passwords))
        assert_read_only(send(here, "patch", f"/api/v1/users/{user['id']}/", {"is_active": False}))
        assert_read_only(send(here, "delete", f"/api/v1/users/{user['id']}/"))
    assert_read_only(here.get("/test/break-off"))  # A team's plain view, which writes.
    page = here.post("/api/v1/users/", new, headers={"Accept": "text/html"})
    assert (page.status_code, page["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "It is read-only" in page.content.decode()
    reset = {"organization": row.name, "email": looked.email}
    assert send(client, "post", "/api/v1/auth/password-reset/", reset).status_code == 202

    renewed = json_of(refresh(str(login["refresh"])))
    assert refresh(str(login["refresh"])).status_code == 401, "used twice"
    assert refresh(renewed["refresh"]).status_code == 401, "which ended it"
    out = bearer(looked.token(client))
    assert send(out, "post", "/api/v1/auth/logout/").status_code == 204
    assert out.get("/api/v1/me/").status_code == 401
    assert emails(looked) == [looked.email]
    entries = AuditEntry.objects.filter(act="organization.restored_beside")
    facts = {"beside": row.pk, "source": run.pk}
    assert {each.organization_id for each in entries if facts.items() <= each.facts.items()} == {
        run.pk,
        row.pk,
    }


def test_a_login_renews_an_old_hash_and_an_old_key(
    backed_up: Company, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Argon2idHasher, "time_cost", 2)
        old = services.hash_password(PASSWORD)
    with tenancy.override(backed_up.tenant):
        first = User.objects.filter(email=backed_up.email)
        key = first.get().email_key
        first.update(password=old, email=backed_up.email.upper())
        first.update(email_key=key)
    backups.back_up(backed_up.organization)
    looked = look_at(backed_up)
    monkeypatch.setattr(models, "email_key", lambda email: f"new {key}")
    monkeypatch.setattr(services, "email_key", lambda email: f"new {key}")
    assert looked.token(client)
    with tenancy.override(looked.tenant):
        user = User.objects.order_by("pk")[0]
    assert (user.email_key, user.password == old) == (f"new {key}", False)


def test_its_files_stay_as_they_are(backed_up: Company) -> None:
    looked = look_at(backed_up)
    acts: tuple[Callable[[], object], ...] = (
        lambda: default_storage.save("new.txt", ContentFile(b"new")),
        lambda: default_storage.open("plan.txt", "w").close(),
        lambda: default_storage.delete("plan.txt"),
    )
    routed = master_directory.MasterDirectory().tenant_by_id(looked.organization.pk)
    for tenant in (looked.tenant, routed):
        with tenancy.override(tenant):
            for act in acts:
                with pytest.raises(OrganizationReadOnly):
                    act()
            with default_storage.open("plan.txt") as file:
                assert file.read() == b"then"
    assert contents(looked.organization.key) == {"plan.txt": "then"}
    with tenancy.override(backed_up.tenant):
        for act in acts:
            act()


def test_one_block_that_may_write_lets_no_other_write(backed_up: Company) -> None:
    looked = look_at(backed_up)
    with tenancy.override(looked.tenant):
        with tenancy.atomic(even_read_only=True):
            LoginSession.objects.all().delete()
            with tenancy.atomic():
                User.objects.update(is_active=True)
        opened = pool.shared.misses
        driver = tenancy.connection().connection
    with tenancy.override(looked.tenant):
        assert User.objects.count() == 1
        assert tenancy.connection().connection is driver, "it was kept"
    assert pool.shared.misses == opened
    for statement in ("UPDATE users SET is_active = true", "DISCARD ALL", "RESET ALL"):
        with pytest.raises(OrganizationReadOnly), tenancy.override(looked.tenant):
            cursor = tenancy.connection().cursor()
            cursor.execute(statement)
            cursor.execute("CREATE TABLE mine (n int)")
    with pytest.raises(OrganizationReadOnly), tenancy.override(looked.tenant):
        end_all_inside_another_block()


def test_it_is_dropped_at_once_when_its_time_is_over_or_sooner(
    backed_up: Company, settings: Settings, superuser: Superuser
) -> None:
    settings.ORG_DELETION_GRACE_DAYS, settings.BACKUP_BEFORE_DROP = 30, True
    before = whole(backed_up)
    late, soon = look_at(backed_up), look_at(backed_up, name="Looked At")
    assert pruning.prune() == []
    rows = Organization.objects.filter(pk__in=(late.organization.pk, soon.organization.pk))
    until = rows[0].read_only_until
    rows.update(read_only_until=timezone.now())

    def meanwhile() -> bool:
        rows.filter(pk=late.organization.pk).update(read_only_until=until)
        rows.filter(pk=soon.organization.pk).update(read_only_until=None)
        return True

    assert delete.drop_expired(goes_on=meanwhile) == []
    assert rows.usable().count() == 2, "its time was changed"
    rows.update(read_only_until=until)
    rows.filter(pk=late.organization.pk).update(read_only_until=timezone.now())
    assert pruning.prune() == []
    lifecycle.delete_organization(soon.organization, now=True)
    for each in (late.organization, soon.organization):
        each.refresh_from_db()
        assert each.status == Status.DELETED
        assert Erasure.objects.filter(organization_key=each.key).exists()
        assert not contents(each.key)
    assert leftovers(superuser) == (set(), set())
    assert whole(backed_up) == before


def test_no_act_makes_it_an_ordinary_one(
    backed_up: Company,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("ORG_ADMIN_PASSWORD", PASSWORD)
    looked = look_at(backed_up)
    row = looked.organization
    acts: tuple[Callable[[Organization], object], ...] = (
        lifecycle.restore_organization,
        lifecycle.undo_restore,
        lifecycle.restore_beside,
        lifecycle.archive_organization,
        archives.ask_archive,
        backups.back_up,
    )
    since = row.status_changed_at
    for act in acts:
        with pytest.raises(WrongState, match="is read-only; it must be an ordinary organization"):
            act(row)
    assert row_of(looked).status_changed_at == since, "nobody was shut out"
    call_command("backup_orgs", "--all")
    assert looked.name not in "".join(capsys.readouterr())
    with pytest.raises(CommandError, match="1 of 1 were not backed up"):
        call_command("backup_orgs", looked.name)
    assert enqueueing.back_up(Organization.objects.filter(pk=row.pk), within_seconds=9) == 0
    Organization.objects.filter(pk=row.pk).update(created_at=timezone.now() - timedelta(days=9))
    settings.BACKUP_NIGHTLY = True
    assert list(check_backups(None, databases=["default"])) == []
    call_command("export_org", looked.name, "--output", str(tmp_path / "all.zip"))
    lifecycle.rename_organization(row, name="Renamed")
    lifecycle.suspend_organization(row)
    lifecycle.resume_organization(row)
    assert emails(looked) == [looked.email]
    with pytest.raises(OrganizationReadOnly), tenancy.override(looked.tenant):
        User.objects.update(is_admin=True)
    with pytest.raises(CommandError, match="It is read-only"):
        call_command("create_admin", "Renamed", "--email", "me@test.com")


def test_one_of_a_suspended_organization_is_suspended_until_staff_resume_it(
    backed_up: Company, client: Client
) -> None:
    lifecycle.suspend_organization(backed_up.organization, reason="unpaid", message="Pay first.")
    looked = look_at(backed_up)
    row = looked.organization
    said = (row.status, row.status_reason, row.status_message)
    assert said == (Status.SUSPENDED, "unpaid", "Pay first.")
    login = {"organization": row.name, "email": looked.email, "password": PASSWORD}
    refused = json_of(send(client, "post", "/api/v1/auth/token/", login), 403)
    assert refused["code"] == "organization_suspended"
    lifecycle.resume_organization(row)
    assert looked.token(client)


def test_one_that_older_code_has_deleted_comes_back_read_only(
    backed_up: Company, settings: Settings
) -> None:
    settings.ORG_DELETION_GRACE_DAYS = 30
    looked = look_at(backed_up)
    rows = Organization.objects.filter(pk=looked.organization.pk)
    until = rows.get().read_only_until
    # It knows no such organization, nor what its identity says of it.
    with open_session() as session, transaction.atomic():
        identity.change(session, expected(rows.get()), read_only_until="")
    rows.update(read_only_until=None)
    lifecycle.delete_organization(rows.get())
    rows.update(read_only_until=until)

    lifecycle.undelete_organization(rows.get())
    assert rows.get().status == Status.ACTIVE
    with pytest.raises(OrganizationReadOnly), tenancy.override(rows.get().tenant):
        User.objects.update(is_admin=True)
    names = {"role": rows.get().role_name, "database": rows.get().database_name}
    with open_session() as session:
        says = identity.find(session, **names).identity
    assert says is not None and until is not None
    assert says.read_only_until == until.isoformat()


def test_a_clone_of_it_is_an_ordinary_organization(backed_up: Company) -> None:
    looked = look_at(backed_up)
    clone = lifecycle.clone_organization(looked.organization, name="Kept", exact=True).organization
    try:
        assert (clone.read_only_until, clone.cloned_from) == (None, looked.organization.pk)
        with tenancy.override(clone.tenant):
            User.objects.update(is_admin=False)
    finally:
        lifecycle.delete_organization(clone)


def test_a_name_is_given_once_and_counts_for_the_ceiling(
    backed_up: Company, settings: Settings
) -> None:
    look_at(backed_up)
    for name in ("", backed_up.name, "  " + backed_up.name.upper()):
        with pytest.raises(OrganizationExists):
            look_at(backed_up, name=name)
    assert Restore.objects.filter(state=Restore.State.FAILED).count() == 3
    settings.ORG_MAX_ORGANIZATIONS = Organization.objects.live().count()
    with pytest.raises(TooManyOrganizations):
        look_at(backed_up, name="One More")


def end_all_inside_another_block() -> None:
    with tenancy.atomic(), tenancy.atomic(even_read_only=True):
        LoginSession.objects.all().delete()
