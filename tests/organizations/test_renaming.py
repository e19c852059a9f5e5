"""Renaming: the name changes, database and logins stay, and the old name leads to the new one."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from organizations import lifecycle, renaming
from organizations.background import pruning, sign_ups
from organizations.errors import (
    OrganizationBusy,
    OrganizationExists,
    OrganizationNotFound,
    ProvisioningInTransaction,
    WrongState,
)
from organizations.jobs.models import PendingSignUp
from organizations.lifecycle import Created
from organizations.migrating import records
from organizations.migrating.engine import Engine
from organizations.migrating.fleet import migrate_one
from organizations.migrating.results import Kind, Result
from organizations.migrating.turn import take
from organizations.models import AuditEntry, FormerName, Organization
from organizations.naming import name_digest, name_key, slug_for
from organizations.postgres.sessions import open_session
from organizations.recovery import credentials
from organizations.tenancy import directory
from organizations.validators import SignUp
from tests.accounts.helpers import send
from tests.conftest import PASSWORD, Company

from .helpers import Superuser, begin_deletion, kill_in_a_fork, kill_this_process

ME = "/api/v1/me/"
NAMES = ("Old Name", "New Name", "Third Name")


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    yield
    for name in NAMES:
        for row in Organization.objects.live().named(name):
            lifecycle.delete_organization(row)
    PendingSignUp.objects.all().delete()


def row_of(company: Company) -> Organization:
    return Organization.objects.get(pk=company.organization.pk)


def rename(company: Company, name: str) -> Organization:
    return lifecycle.rename_organization(row_of(company), name=name)


def sign_up(name: str) -> Created:
    return lifecycle.create_organization(name=name, email="admin@test.com", password=PASSWORD)


# --- What changes, and what stays ---------------------------------------------------------------
def test_name_and_slug_change_and_the_database_and_every_login_stay(
    company: Callable[..., Company], client: Client
) -> None:
    made = company("Old Name")
    header = {"Authorization": f"Bearer {made.token(client)}"}
    before = row_of(made)
    assert client.get(ME, headers=header).status_code == 200
    now = rename(made, "  New   Name ")
    assert (now.name, now.slug) == ("New Name", "new-name")
    for field in ("key", "database_name", "role_name", "sealed_password", "status"):
        assert getattr(now, field) == getattr(before, field)
    assert row_of(made).pending_fence == ""
    assert client.get(ME, headers=header).status_code == 200
    assert client.get(ME, headers=header | {"X-Org": "new-name"}).status_code == 200
    entry = AuditEntry.objects.filter(act="organization.renamed").latest("pk")
    assert entry.organization_id == now.pk
    assert {entry.facts["from"], entry.facts["to"]} == {"old-name", "new-name"}


def test_the_old_name_leads_to_the_new_one(
    company: Callable[..., Company], client: Client, settings: Settings, beta: Company
) -> None:
    made = company("Old Name")
    token = {"Authorization": f"Bearer {made.token(client)}"}
    rename(made, "New Name")
    rename(made, "Third Name")
    settings.ORG_BASE_DOMAIN, settings.ALLOWED_HOSTS = "app.example", ["*"]
    for number, name in enumerate(("old_name", "NEW-NAME", "third name")):
        answer: Any = send(Client(), "post", "/org/get", {"organization_name": name})
        assert answer.json()["name"] == "Third Name"
        body = {"organization": name, "email": made.email, "password": PASSWORD}
        host = {"Host": f"{slug_for(name_key(name))}.app.example"}
        answer = client.post("/api/v1/auth/token/", body, headers=host)
        assert answer.status_code == 200, (number, answer.content)
        for headers in (host, {"X-Organization": slug_for(name_key(name))}):
            assert client.get(ME, headers=token | headers).status_code == 200, headers
        assert lifecycle.find_organization(name).pk == made.organization.pk
        assert directory.get().counted_as(name)[0] == made.organization.pk
    for headers in ({"X-Org": "another-name"}, {"X-Org": beta.organization.slug}):
        answer = client.get(ME, headers=token | headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "organization_mismatch")


def test_the_old_slug_of_another_organization_is_refused_like_its_new_one(
    company: Callable[..., Company], client: Client, beta: Company
) -> None:
    made = company("Old Name")
    rename(made, "New Name")
    # As if it had been beta's before it was this one's: a present slug is nobody else's.
    FormerName.objects.create(
        digest="0" * 64,
        slug="new-name",
        organization=beta.organization,
        held_until=timezone.now() + timedelta(days=1),
    )
    token = {"Authorization": f"Bearer {beta.token(client)}"}
    for slug in ("old-name", "new-name"):
        answer = client.get(ME, headers=token | {"X-Org": slug})
        assert (answer.status_code, answer.json()["code"]) == (403, "organization_mismatch")
    FormerName.objects.filter(organization=beta.organization).delete()


# --- Nobody else gets it --------------------------------------------------------------------------
def test_nobody_signs_up_under_a_held_name_or_one_confusable_with_it(
    company: Callable[..., Company], beta: Company
) -> None:
    rename(company("Old Name"), "New Name")
    for name in ("Old Name", "old_name", "ＯＬＤ－ＮＡＭＥ", "new name"):
        with pytest.raises(OrganizationExists):
            sign_up(name)
        with pytest.raises(OrganizationExists):
            sign_ups.accept(SignUp(name, "a@test.com", PASSWORD), base_url="http://x")
        with pytest.raises(OrganizationExists):
            rename(beta, name)
    assert row_of(beta).name == beta.name


def test_nobody_gets_the_slug_of_a_held_name(
    company: Callable[..., Company],
) -> None:
    """A readable name can look like another one's hashed slug: its host would be theirs."""
    made = company("株式会社 改名")
    hashed = made.organization.slug
    rename(made, "New Name")
    other = company(hashed)
    assert other.organization.slug.startswith(hashed) and other.organization.slug != hashed
    rename(other, "Third Name")
    assert FormerName.objects.held().filter(slug=hashed).get().organization == made.organization


def test_an_organization_keeps_its_slug_with_its_name(company: Callable[..., Company]) -> None:
    """Its hosts and headers go on, though the slug is not what its name would get today."""
    held = company("株式会社 改名")
    hashed = held.organization.slug
    rename(held, "New Name")
    other = company(hashed)
    slug = other.organization.slug
    assert slug != hashed
    assert rename(other, hashed.upper()).slug == slug
    assert rename(other, "Third Name").slug == "third-name"
    assert rename(other, hashed).slug == slug
    assert [each.slug for each in other.organization.former_names.all()] == ["third-name"]


def test_an_organization_takes_its_own_name_back(company: Callable[..., Company]) -> None:
    made = company("Old Name")
    rename(made, "New Name")
    rename(made, "OLD NAME")
    row = row_of(made)
    assert (row.name, row.slug) == ("OLD NAME", "old-name")
    assert [each.slug for each in row.former_names.all()] == ["new-name"]
    rename(made, "Old Name")
    assert [each.slug for each in row.former_names.all()] == ["new-name"], "a spelling is no name"


def test_a_name_is_free_when_its_time_is_over_or_its_organization_is_deleted(
    company: Callable[..., Company], settings: Settings
) -> None:
    made = company("Old Name")
    rename(made, "New Name")
    held = FormerName.objects.get(organization=made.organization)
    days = (held.held_until - timezone.now()) / timedelta(days=1)
    assert 29.9 < days <= settings.ORG_NAME_HOLD_DAYS == 30
    FormerName.objects.update(held_until=timezone.now())
    with pytest.raises(OrganizationNotFound):
        lifecycle.find_organization("Old Name")
    successor = sign_up("Old Name").organization
    assert successor.slug == "old-name", "the slug is free, whoever has its database's name"
    assert successor.database_name.startswith("org_old_name_")
    assert lifecycle.find_organization("old-name").pk == successor.pk
    pruning.prune()
    assert not FormerName.objects.exists()

    successor_slug = successor.slug
    lifecycle.rename_organization(successor, name="Third Name")
    pruning.prune()
    assert FormerName.objects.get().slug == successor_slug, "it is still held"
    lifecycle.delete_organization(successor)
    assert not FormerName.objects.exists()
    # As earlier code deletes: it knows no former names.
    until = timezone.now() + timedelta(days=1)
    FormerName.objects.create(
        digest=name_digest("Old Name"), slug="old-name", organization=successor, held_until=until
    )
    assert (again := sign_up("Old Name").organization).slug == "old-name"
    FormerName.objects.all().delete()
    lifecycle.delete_organization(again)


def test_a_name_is_not_held_where_the_setting_says_so(
    company: Callable[..., Company], settings: Settings
) -> None:
    settings.ORG_NAME_HOLD_DAYS = 0
    rename(company("Old Name"), "New Name")
    lifecycle.delete_organization(sign_up("Old Name").organization)


# --- What is refused ------------------------------------------------------------------------------
def test_what_cannot_be_renamed_is_refused_and_stays_as_it_is(
    company: Callable[..., Company], beta: Company
) -> None:
    made = company("Old Name")
    with pytest.raises(ValidationError, match="at least one letter"):
        rename(made, "---")
    with pytest.raises(OrganizationExists):
        rename(made, beta.name.upper())
    sign_ups.accept(SignUp("Third Name", "a@test.com", PASSWORD), base_url="http://x")
    with pytest.raises(OrganizationExists):
        rename(made, "third-name")
    with pytest.raises(ProvisioningInTransaction), transaction.atomic(using="default"):
        rename(made, "New Name")
    assert (row_of(made).name, FormerName.objects.count()) == ("Old Name", 0)
    lifecycle.suspend_organization(row_of(made))
    rename(made, "New Name")
    begin_deletion(row_of(made))
    with pytest.raises(WrongState, match="is deleting; it must be active or suspended"):
        rename(made, "Third Name")
    lifecycle.reconcile_organizations()
    with pytest.raises(OrganizationNotFound):
        rename(made, "Third Name")


def test_a_repeated_rename_changes_nothing(company: Callable[..., Company]) -> None:
    made = company("Old Name")
    rename(made, "New Name")
    entries = AuditEntry.objects.count()
    assert rename(made, "New Name").slug == "new-name"
    assert AuditEntry.objects.count() == entries


# --- A lock by the name of before -----------------------------------------------------------------
def test_what_was_read_before_a_rename_is_done_under_the_new_names_lock(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    """Whoever read the row, and locks the name only then, meets who holds the new one."""
    made = company("Old Name")
    acts: list[Callable[[Organization], object]] = [
        lifecycle.delete_organization,
        partial(lifecycle.rename_organization, name="Third Name"),
        partial(lifecycle._reconcile_one, wait_seconds=0.1),
        lambda stale: migrate_one(stale, Engine()).kind,
        credentials.reset,
    ]
    stale = [row_of(made) for _ in acts]
    looked = row_of(made)
    rename(made, "New Name")
    renaming_wait, reset_wait = renaming._WAIT_SECONDS, credentials._WAIT_SECONDS
    renaming._WAIT_SECONDS = credentials._WAIT_SECONDS = 0.1
    try:
        with open_session() as session:
            assert session.try_lock(name_key("New Name"))
            for act, row in zip(acts, stale, strict=True):
                try:
                    assert act(row) == Kind.BUSY
                except OrganizationBusy:
                    continue
            with open_session() as another:
                result = take(another, looked, Engine(), looks_only=True)
            assert result.kind == Kind.BUSY
    finally:
        renaming._WAIT_SECONDS, credentials._WAIT_SECONDS = renaming_wait, reset_wait
    assert row_of(made).name == "New Name"
    assert migrate_one(stale[3], Engine()).name == "New Name"
    free = superuser.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    assert free.fetchone() == (0,), "a lock of either name was left"


def test_a_migration_of_it_and_a_sign_up_of_its_new_name_hold_a_rename_up(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = company("Old Name")
    monkeypatch.setattr(renaming, "_WAIT_SECONDS", 0.1)
    with open_session() as session:
        assert session.try_lock(name_key("new-name"))
        with pytest.raises(OrganizationBusy):
            rename(made, "New Name")
    with open_session() as session:
        records.begin(session, row_of(made), looks_only=False)
        with pytest.raises(OrganizationBusy):
            rename(made, "New Name")
        records.end(session, Result.of(row_of(made), Kind.FAILED), looks_only=False)
    assert rename(made, "New Name").name == "New Name"


# --- kill -9 ------------------------------------------------------------------------------------
def test_a_rename_that_was_killed_before_the_fence_is_finished_by_reconciling(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    made = company("Old Name")
    token = {"Authorization": f"Bearer {made.token(client)}"}
    assert client.get(ME, headers=token).status_code == 200
    with monkeypatch.context() as patched:
        patched.setattr(renaming, "fence_by", lambda *_: kill_this_process())
        kill_in_a_fork(lambda: rename(made, "New Name"))
    row = row_of(made)
    assert row.name == "New Name" and row.pending_fence
    assert lifecycle.reconcile_organizations()["fenced"] == ["New Name"]
    for slug in ("old-name", "new-name"):
        assert client.get(ME, headers=token | {"X-Org": slug}).status_code == 200


def test_a_rename_that_was_killed_is_not_taken_for_an_earlier_try_to_suspend(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = company("Old Name")
    lifecycle.suspend_organization(row_of(made), reason="unpaid")
    with monkeypatch.context() as patched:
        patched.setattr(renaming, "fence_by", lambda *_: kill_this_process())
        kill_in_a_fork(lambda: rename(made, "New Name"))
    assert row_of(made).pending_fence
    with pytest.raises(WrongState):
        lifecycle.suspend_organization(row_of(made), reason="abuse", message="Call us.")
    row = row_of(made)
    assert (row.status_reason, row.status_message) == ("unpaid", "")
    assert row.pending_fence == "", "whoever is refused has ended the sessions"
