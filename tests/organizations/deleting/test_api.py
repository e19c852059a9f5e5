"""POST /api/v1/organizations/{id}/delete/ and undelete/."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from pytest_django import Settings

from organizations import lifecycle
from organizations.backups import closed
from organizations.models import Staff, StoredAnswer
from tests.conftest import PASSWORD, Company
from tests.organizations.helpers import kill_in_a_fork, kill_this_process

from .helpers import Status, entries, is_aside, row_of

LIST = "/api/v1/organizations/"


@pytest.fixture
def made(company: Callable[..., Company]) -> Iterator[Company]:
    yield company()
    StoredAnswer.objects.all().delete()


def post(client: Client, company: Company, act: str, key: str | None = None, **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    path = f"{LIST}{company.organization.pk}/{act}/"
    return client.post(path, body, content_type="application/json", headers=headers)


def answer(response: Any) -> tuple[int, str]:
    return response.status_code, response.json().get("code", "")


def test_staff_delete_an_organization_and_bring_it_back(
    staff_client: Client, made: Company, company: Callable[..., Company]
) -> None:
    shown = post(staff_client, made, "delete", "key").json()
    assert (shown["status"], shown["kept_until"] is None) == ("trashed", False)
    assert shown == staff_client.get(f"{LIST}{made.organization.pk}/").json()
    assert post(staff_client, made, "delete", "key").json() == shown
    (entry,) = entries(made, "organization.trashed")
    assert entry.actor == "staff"
    for act in ("suspend", "resume"):
        assert answer(post(staff_client, made, act)) == (409, "organization_wrong_state")
    new = {"name": "Renamed Ltd"}
    assert answer(post(staff_client, made, "rename", **new)) == (409, "organization_wrong_state")

    shown = post(staff_client, made, "undelete", "key 2").json()
    assert (shown["status"], shown["kept_until"], shown["name"]) == ("active", None, made.name)
    lifecycle.delete_organization(row_of(made))
    assert post(staff_client, made, "undelete", "key 2").json() == shown, "and nothing is undone"
    assert row_of(made).status == Status.TRASHED
    assert post(staff_client, made, "delete", free_name=True).status_code == 200
    company(made.name)
    assert answer(post(staff_client, made, "undelete")) == (409, "organization_exists")
    name = f"{made.name} 2"
    assert post(staff_client, made, "undelete", name=name).json()["name"] == name
    assert answer(post(staff_client, made, "undelete")) == (409, "organization_wrong_state")


def test_a_former_slug_neither_deletes_nor_restores(staff_client: Client, made: Company) -> None:
    old = made.organization.slug
    lifecycle.rename_organization(row_of(made), name="Renamed Since Ltd")
    for act in ("delete", "restore"):
        assert staff_client.post(f"{LIST}{old}/{act}/").status_code == 404
    assert row_of(made).status == Status.ACTIVE
    assert staff_client.get(f"{LIST}{old}/restore/").status_code == 200
    assert staff_client.post(f"{LIST}renamed-since-ltd/delete/").json()["status"] == "trashed"


def test_what_is_wrong_with_a_body_is_said_by_field(staff_client: Client, made: Company) -> None:
    for act, body, field in (
        ("delete", {"free_name": "perhaps"}, "free_name"),
        ("delete", {"free_name": "yes"}, "free_name"),
        ("restore", {"undo": 1}, "undo"),
        ("undelete", {"name": "---"}, "name"),
        ("undelete", {"name": 7}, "name"),
    ):
        response = post(staff_client, made, act, **body)
        assert answer(response) == (400, "invalid"), body
        assert set(response.json()["fields"]) == {field}
    assert row_of(made).status == Status.ACTIVE


def test_each_needs_its_own_permission_and_delete_is_no_method(
    client: Client, made: Company
) -> None:
    staff = Staff.objects.create_user(secrets.token_hex(8), None, PASSWORD, is_staff=True)
    client.force_login(staff)
    try:
        for name in ("view_organization", "change_organization", "suspend_organization"):
            staff.user_permissions.add(Permission.objects.get(codename=name))
        for act, status in (("delete", Status.TRASHED), ("undelete", Status.ACTIVE)):
            assert answer(post(client, made, act)) == (403, "permission_denied")
            staff.user_permissions.add(Permission.objects.get(codename=f"{act}_organization"))
            assert post(client, made, act).status_code == 200
            assert row_of(made).status == status
        assert client.delete(f"{LIST}{made.organization.pk}/").status_code == 405
        assert client.delete(LIST).status_code == 405
    finally:
        staff.delete()


@pytest.mark.parametrize("act", ["delete", "undelete"])
def test_a_repeat_finishes_what_a_killed_request_began(
    staff_client: Client, made: Company, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    if act == "undelete":
        lifecycle.delete_organization(row_of(made))
    with monkeypatch.context() as patched:
        patched.setattr(closed, "put_aside", lambda *_: kill_this_process())
        patched.setattr("organizations.api.acts._answer", lambda row: kill_this_process())
        kill_in_a_fork(lambda: post(staff_client, made, act, "key"))
    wanted = Status.TRASHED if act == "delete" else Status.ACTIVE
    for _ in range(2):
        shown = post(staff_client, made, act, "key").json()
        assert (shown["status"], row_of(made).status) == (wanted, wanted)
    assert len(entries(made, f"organization.{'trashed' if act == 'delete' else 'undeleted'}")) == 1
    if act == "delete":
        assert lifecycle.reconcile_organizations()["kept"] == [made.name] and is_aside(made)


def test_without_a_grace_the_answer_is_the_tombstone(
    staff_client: Client, made: Company, settings: Settings
) -> None:
    settings.ORG_DELETION_GRACE_DAYS = 0
    shown = post(staff_client, made, "delete", "key").json()
    assert (shown["status"], shown["admin_email"]) == ("deleted", "")
    assert answer(post(staff_client, made, "delete", "key")) == (404, "organization_not_found")
    assert answer(post(staff_client, made, "undelete")) == (404, "organization_not_found")
