"""POST /api/v1/organizations/{id}/suspend/, resume/, rename/ …, and their Idempotency-Key.

Deleting and undeleting: deleting/test_api.py.
"""

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone
from psycopg import sql

from accounts.models import User
from organizations import lifecycle, renaming, suspending, tenancy
from organizations.api import serializers
from organizations.background import pruning
from organizations.models import AuditEntry, Organization, Staff, StoredAnswer
from organizations.postgres import fence as fence_module
from organizations.postgres.sessions import open_session
from tests.conftest import PASSWORD, Company

from .helpers import Superuser, kill_in_a_fork, kill_this_process, together

LIST = "/api/v1/organizations/"
Status = Organization.Status
DAY = timedelta(hours=24)
DONE = {"suspend": "suspended", "resume": "resumed", "rename": "renamed"}


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


def row_of(company: Company) -> Organization:
    return Organization.objects.get(pk=company.organization.pk)


def entries(company: Company, act: str) -> list[AuditEntry]:
    rows = AuditEntry.objects.filter(organization_id=company.organization.pk, act=act)
    return list(rows.order_by("pk"))


# --- The acts -------------------------------------------------------------------------------------
def test_staff_suspend_resume_and_rename_an_organization(
    staff_client: Client, made: Company
) -> None:
    shown = post(staff_client, made, "suspend", reason="unpaid", message="Pay, please.").json()
    assert (shown["status"], shown["status_reason"]) == ("suspended", "unpaid")
    assert shown["status_message"] == "Pay, please."
    assert shown == staff_client.get(f"{LIST}{made.organization.pk}/").json()
    (entry,) = entries(made, "organization.suspended")
    assert (entry.actor, entry.facts) == ("staff", {"with_reason": True, "with_message": True})
    assert answer(post(staff_client, made, "suspend")) == (409, "organization_wrong_state")
    new = f"{made.name} Ltd"
    assert post(staff_client, made, "rename", name=new).json()["name"] == new
    shown = post(staff_client, made, "resume").json()
    assert (shown["status"], shown["status_reason"], shown["status_message"]) == ("active", "", "")
    old = f"{LIST}{made.organization.slug}/resume/"
    assert answer(staff_client.post(old)) == (409, "organization_wrong_state"), "by its old slug"


def test_a_browser_gets_pages(staff_client: Client, made: Company) -> None:
    page = {"Accept": "text/html"}
    for act, data, status in (
        ("suspend", {"reason": "unpaid"}, 200),
        ("resume", {}, 200),
        ("rename", {"name": "---"}, 400),
        ("rename", {"name": f"{made.name} 2"}, 200),
    ):
        path = f"{LIST}{made.organization.pk}/{act}/"
        response = staff_client.post(path, data, headers=page)
        assert (response.status_code, response["Content-Type"]) == (
            status,
            "text/html; charset=utf-8",
        )
        assert staff_client.get(path, headers=page).status_code == 405


def test_what_is_wrong_with_a_body_is_said_by_field(
    staff_client: Client, made: Company, alpha: Company
) -> None:
    for act, body, field in (
        ("suspend", {"message": "x" * 201}, "message"),
        ("suspend", {"message": "two\nlines"}, "message"),
        ("suspend", {"message": "\u202eevil"}, "message"),
        ("suspend", {"reason": "x" * 1001}, "reason"),
        ("suspend", {"reason": 7}, "reason"),
        ("rename", {}, "name"),
        ("rename", {"name": "---"}, "name"),
    ):
        response = post(staff_client, made, act, **body)
        assert answer(response) == (400, "invalid"), body
        assert set(response.json()["fields"]) == {field}
    response = post(staff_client, made, "rename", name=alpha.name)
    assert answer(response) == (409, "organization_exists")
    assert row_of(made).status == Status.ACTIVE
    assert staff_client.post(f"{LIST}999999999/suspend/").status_code == 404


def test_each_act_needs_its_own_permission_and_the_csrf_token(
    made: Company, client: Client
) -> None:
    staff = Staff.objects.create_user(secrets.token_hex(8), None, PASSWORD, is_staff=True)
    client.force_login(staff)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(staff)
    try:
        for name in ("view_organization", "change_organization", "add_organization"):
            staff.user_permissions.add(Permission.objects.get(codename=name))
        body = {"name": "Taken Over"}
        for act in ("suspend", "resume", "rename"):
            assert answer(post(client, made, act, **body)) == (403, "permission_denied")
        for act in ("suspend", "resume", "rename"):
            staff.user_permissions.add(Permission.objects.get(codename=f"{act}_organization"))
            assert post(strict, made, act, **body).status_code == 403
            others = {"suspend", "resume", "rename"} - {act}
            staff.user_permissions.remove(
                *Permission.objects.filter(codename__in=[f"{o}_organization" for o in others])
            )
            assert {post(client, made, o, **body).status_code for o in others} == {403}
            assert post(client, made, act, **body).status_code == 200, act
    finally:
        staff.delete()
    token = {"Authorization": f"Bearer {made.token(Client())}"}
    for headers, status in ((token, 403), ({}, 401)):
        answers = Client().post(f"{LIST}{made.organization.pk}/suspend/", headers=headers)
        assert answers.status_code == status


# --- Idempotency-Key ------------------------------------------------------------------------------
def test_a_repeat_gets_the_first_answer_and_the_act_is_done_once(
    staff_client: Client, made: Company
) -> None:
    first = post(staff_client, made, "suspend", "key 1", reason="unpaid")
    assert first.status_code == 200
    lifecycle.resume_organization(row_of(made))
    again = post(staff_client, made, "suspend", "key 1", reason="unpaid")
    assert (again.status_code, again.json()) == (200, first.json())
    assert len(entries(made, "organization.suspended")) == 1
    assert row_of(made).status == Status.ACTIVE
    assert post(staff_client, made, "suspend", "key 2", reason="unpaid").status_code == 200
    stored = str(list(StoredAnswer.objects.values()))
    assert "key 1" not in stored and "sealed" not in stored and row_of(made).key not in stored


def test_a_key_is_for_one_request_of_one_person(staff_client: Client, made: Company) -> None:
    assert post(staff_client, made, "suspend", "one", reason="unpaid").status_code == 200
    reused = (422, "idempotency_key_reused")
    assert answer(post(staff_client, made, "suspend", "one", reason="other")) == reused
    assert answer(post(staff_client, made, "suspend", "one")) == reused
    assert answer(post(staff_client, made, "resume", "one", reason="unpaid")) == reused
    assert row_of(made).status == Status.SUSPENDED
    other = Staff.objects.create_superuser(secrets.token_hex(8), None, PASSWORD)
    client = Client()
    client.force_login(other)
    assert post(client, made, "resume", "one").status_code == 200, "another person's is another"
    Staff.objects.filter(pk=other.pk).update(is_superuser=False)
    assert post(client, made, "resume", "one").status_code == 403, "an answer needs the permission"
    other.delete()


def test_a_refusal_frees_the_key(staff_client: Client, made: Company) -> None:
    assert answer(post(staff_client, made, "rename", "key", name="---"))[0] == 400
    assert post(staff_client, made, "resume", "key").status_code == 409
    assert (
        staff_client.post(f"{LIST}0/resume/", headers={"Idempotency-Key": "key"}).status_code == 404
    )
    assert post(staff_client, made, "rename", "key", name=f"{made.name} 2").status_code == 200


def test_a_malformed_key_is_refused(staff_client: Client, made: Company) -> None:
    for key in ("", "x" * 256, "a\tb", "a\x7fb", "schlüssel"):
        answered = answer(post(staff_client, made, "suspend", key))
        assert answered == (400, "idempotency_key_invalid"), key
    assert row_of(made).status == Status.ACTIVE
    assert post(staff_client, made, "suspend", "x" * 255).status_code == 200


@pytest.mark.parametrize("act", ["suspend", "rename"])
def test_a_key_whose_request_acts_at_this_moment_is_in_use(
    staff_client: Client, made: Company, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """The second one has looked for the key already, and then the first one commits."""
    body = {"name": f"{made.name} Ltd"} if act == "rename" else {"reason": "unpaid"}
    first: list[Any] = []
    do = getattr(lifecycle, f"{act}_organization")

    def overtaken(organization: Organization, **data: Any) -> None:
        monkeypatch.undo()
        first.append(post(staff_client, made, act, "key", **body))
        do(organization, **data)

    monkeypatch.setattr(lifecycle, f"{act}_organization", overtaken)
    response = post(staff_client, made, act, "key", **body)
    assert answer(response) == (409, "idempotency_key_in_use")
    assert response["Retry-After"] == "2"
    assert first[0].status_code == 200
    assert post(staff_client, made, act, "key", **body).json() == first[0].json()
    assert len(entries(made, f"organization.{DONE[act]}")) == 1


def test_of_many_repeats_at_once_one_does_the_act(staff_client: Client, made: Company) -> None:
    results: list[Any] = together(
        *[partial(post, staff_client, made, "suspend", "key", reason="x") for _ in range(6)]
    )
    said = {answer(each) for each in results}
    assert said <= {(200, ""), (409, "idempotency_key_in_use")} and (200, "") in said
    assert len(entries(made, "organization.suspended")) == 1
    # A stored answer's fields are in the database's order.
    first, *others = [each.json() for each in results if each.status_code == 200]
    assert all(other == first for other in others), others


@pytest.mark.parametrize(
    ("act", "dies"),
    [
        ("suspend", "before it begins"),
        ("rename", "before it begins"),
        ("resume", "before it begins"),
        ("suspend", "before the fence"),
        ("rename", "before the fence"),
        ("suspend", "before it answers"),
        ("rename", "before it answers"),
        ("resume", "before it answers"),
    ],
)
def test_a_repeat_finishes_what_a_killed_request_began(
    staff_client: Client, made: Company, monkeypatch: pytest.MonkeyPatch, act: str, dies: str
) -> None:
    body = {"name": f"{made.name} Ltd"} if act == "rename" else {}
    if act == "resume":
        lifecycle.suspend_organization(made.organization)
    with monkeypatch.context() as patched:
        if dies == "before it begins":
            patched.setattr(lifecycle, f"{act}_organization", lambda *_, **__: kill_this_process())
        elif dies == "before the fence":
            patched.setattr(suspending, "fence", lambda organization: kill_this_process())
            patched.setattr(renaming, "fence_by", lambda *_: kill_this_process())
        else:
            patched.setattr(serializers, "OrganizationStaffOutput", lambda row: kill_this_process())
        kill_in_a_fork(lambda: post(staff_client, made, act, "key", **body))
    response = post(staff_client, made, act, "key", **body)
    assert response.status_code == 200, response.content
    row = row_of(made)
    wanted = {"suspend": Status.SUSPENDED, "resume": Status.ACTIVE, "rename": Status.ACTIVE}
    assert (row.status, row.pending_fence) == (wanted[act], "")
    assert row.name == body.get("name", made.name)
    assert post(staff_client, made, act, "key", **body).json() == response.json()
    assert len(entries(made, f"organization.{DONE[act]}")) == 1


@pytest.mark.parametrize("act", ["suspend", "resume", "rename"])
def test_a_repeat_undoes_nothing_that_was_decided_since(
    staff_client: Client, made: Company, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    body = {"name": f"{made.name} Ltd"} if act == "rename" else {}
    if act == "resume":
        lifecycle.suspend_organization(row_of(made))
    with monkeypatch.context() as patched:
        patched.setattr(serializers, "OrganizationStaffOutput", lambda row: kill_this_process())
        kill_in_a_fork(lambda: post(staff_client, made, act, "key", **body))
    if act == "suspend":
        lifecycle.resume_organization(row_of(made))
    elif act == "resume":
        lifecycle.suspend_organization(row_of(made), reason="another's decision")
    else:
        lifecycle.rename_organization(row_of(made), name=f"{made.name} Inc")
    decided = row_of(made)
    response = post(staff_client, made, act, "key", **body)
    assert response.status_code == 200, response.content
    now = row_of(made)
    for field in ("status", "status_reason", "name", "slug"):
        assert getattr(now, field) == getattr(decided, field) == response.json()[field]
    assert len(entries(made, f"organization.{DONE[act]}")) == (2 if act == "rename" else 1)


def test_an_act_that_was_saved_and_could_not_end_a_session_is_finished_by_a_repeat(
    staff_client: Client, made: Company, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_session() as session:
        us = sql.Identifier(session.user)
    names = (sql.Identifier(row_of(made).role_name), us)
    with tenancy.override(made.tenant):
        assert User.objects.count() == 1  # And the connection stays open.
    superuser.execute(sql.SQL("REVOKE {} FROM {} CASCADE").format(*names))
    try:
        with monkeypatch.context() as patched:
            patched.setattr(fence_module, "FENCE_SECONDS", 0.0)
            response = post(staff_client, made, "suspend", "key")
        assert answer(response) == (503, "sessions_remain")
        assert "Nothing was" not in response.json()["detail"]
        row = row_of(made)
        assert (row.status, bool(row.pending_fence)) == (Status.SUSPENDED, True)
    finally:
        grant = "GRANT {} TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
        superuser.execute(sql.SQL(grant).format(*names))
    assert post(staff_client, made, "suspend", "key").json()["status"] == "suspended"
    assert row_of(made).pending_fence == ""
    assert len(entries(made, "organization.suspended")) == 1


def test_after_a_day_a_key_is_as_new(staff_client: Client, made: Company) -> None:
    post(staff_client, made, "suspend", "of yesterday")
    lifecycle.resume_organization(row_of(made))
    StoredAnswer.objects.update(began_at=timezone.now() - DAY)
    assert post(staff_client, made, "suspend", "of yesterday").status_code == 200
    assert row_of(made).status == Status.SUSPENDED
    post(staff_client, made, "resume", "older")
    StoredAnswer.objects.filter(body__status="active").update(began_at=timezone.now() - DAY)
    pruning.prune()
    assert list(StoredAnswer.objects.values_list("body__status", flat=True)) == ["suspended"]


def test_a_deleted_organizations_answer_is_gone_and_its_key_is_nobody_elses(
    staff_client: Client, made: Company, company: Callable[..., Company]
) -> None:
    """The path can be another organization's since."""
    first = company("Slug Twice", email="gone@test.com")
    path, key = f"{LIST}slug-twice/suspend/", {"Idempotency-Key": "key"}
    assert staff_client.post(path, headers=key).json()["admin_email"] == "gone@test.com"
    lifecycle.delete_organization(row_of(first))
    assert "gone@test.com" not in str(list(StoredAnswer.objects.values()))
    second = company("Slug Twice")
    assert answer(staff_client.post(path, headers=key)) == (404, "organization_not_found")
    assert row_of(second).status == Status.ACTIVE
