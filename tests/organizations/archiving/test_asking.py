"""Requesting archives and thaws: by staff, and thaws by the organization's admin."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from pytest_django import Settings

from organizations.background import archives
from organizations.backups import making
from organizations.errors import ArchiveFailed
from organizations.models import AuditEntry, Organization, Staff, StoredAnswer
from tests.accounts.link_helpers import link_in, sent, token_in
from tests.conftest import PASSWORD, Company
from tests.organizations.jobs.helpers import clear, work
from tests.organizations.restoring.helpers import emails, row_of

from .helpers import Status, archive

LIST = "/api/v1/organizations/"
ASK, USE = "/api/v1/org/thaw-link/", "/api/v1/org/thaw/"
JSON = "application/json"


@pytest.fixture(autouse=True)
def _empty_queue(_database: None) -> Iterator[None]:
    clear()
    yield
    clear()
    StoredAnswer.objects.all().delete()


def post(client: Client, company: Company, act: str, key: str) -> Any:
    path = f"{LIST}{company.organization.pk}/{act}/"
    return client.post(path, content_type=JSON, headers={"Idempotency-Key": key})


def state(client: Client, company: Company, act: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.get(f"{LIST}{company.organization.pk}/{act}/").json()
    return answer


def test_staff_archive_and_thaw_by_rest_once_for_each_key(
    staff_client: Client, client: Client, made: Company
) -> None:
    staff = Staff.objects.create_user(f"a-{secrets.token_hex(4)}", None, PASSWORD, is_staff=True)
    client.force_login(staff)
    for act, status in (("archive", Status.ARCHIVED), ("thaw", Status.ACTIVE)):
        assert state(staff_client, made, act)["state"] == "none"
        key = secrets.token_hex(8)
        assert post(client, made, act, key).status_code == 403
        staff.user_permissions.add(Permission.objects.get(codename=f"{act}_organization"))
        first, again = post(client, made, act, key), post(client, made, act, key)
        assert (first.status_code, first.json()["state"]) == (202, "waiting")
        assert again.json() == first.json()
        other = post(client, made, act, secrets.token_hex(8))
        assert (other.status_code, other.json()["code"]) == (409, "organization_busy")
        work()
        done = state(staff_client, made, act)
        assert (done["state"], done["error"]) == ("done", "")
        assert row_of(made).status == status
        other = post(client, made, act, secrets.token_hex(8))
        assert (other.status_code, other.json()["code"]) == (409, "organization_wrong_state")
    assert emails(made) == [made.email]
    rows = AuditEntry.objects.filter(organization_id=made.organization.pk, act__endswith="_asked")
    assert [(each.act, each.actor) for each in rows.order_by("pk")] == [
        ("organization.archive_asked", "staff"),
        ("organization.thaw_asked", "staff"),
    ]
    staff.delete()


def test_a_job_that_fails_says_why_and_is_not_tried_again(
    staff_client: Client, made: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise ArchiveFailed(made.name, "a reason.")

    monkeypatch.setattr(making, "back_up", refuse)
    post(staff_client, made, "archive", secrets.token_hex(8))
    work()
    found = state(staff_client, made, "archive")
    assert found["state"] == "failed" and "a reason." in found["error"]
    assert row_of(made).status == Status.ACTIVE and emails(made) == [made.email]


def ask(name: str) -> Any:
    return Client().post(ASK, {"organization_name": name}, content_type=JSON)


def use(token: str) -> Any:
    return Client().post(USE, {"token": token}, content_type=JSON)


def test_its_admin_brings_it_back_by_a_mailed_link_that_works_once(
    made: Company, beta: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(made)
    Organization.objects.filter(pk=made.organization.pk).update(cloned_from=1)
    ask(made.name)
    assert sent() == [], "a clone sends none"
    Organization.objects.filter(pk=made.organization.pk).update(cloned_from=None)
    answers = {
        (answer.status_code, answer.content)
        for answer in map(ask, (made.name, beta.name, "Nobody At All"))
    }
    assert [status for status, _ in answers] == [202], "the same for every name"
    (message,) = sent()
    assert message.to == [made.email] and made.name in message.body
    page = link_in(message).partition("testserver")[2]
    assert Client().get(page).status_code == 200
    assert row_of(made).status == Status.ARCHIVED  # Mail programs open links too.
    token = token_in(message)
    with monkeypatch.context() as late:
        late.setattr(archives, "LINK_HOURS", -1)
        assert use(token).status_code == 400
    answer = use(token)
    assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    url = answer.json()["status_url"]
    assert answer["Location"] == url
    assert use(token).json() == answer.json()  # The same job.
    work()
    assert Client().get(url).json() == {"state": "done"}
    assert row_of(made).status == Status.ACTIVE and emails(made) == [made.email]
    again = use(token)
    assert (again.status_code, again.json()["code"]) == (400, "invalid_link")
    archive(made)
    assert use(token).status_code == 400 and Client().get(page).status_code == 400
    # As a signer could: its own backup with another's id.
    content = archives._signer().unsign_object(token)
    misdirected = archives._signer().sign_object({**content, "org": beta.organization.pk})
    assert use(misdirected).status_code == 400
    for forged in ("x", token[:-2] + "xx"):
        assert use(forged).status_code == 400
        assert Client().get(f"{USE}{forged}/").status_code == 400
    # The page brings it back too.
    shown = Client().post("/api/thaw/", {"token": archives.token_for(row_of(made))})
    assert shown.status_code == 200 and "It is being brought back" in shown.content.decode()
    work()
    assert row_of(made).status == Status.ACTIVE


def test_links_are_limited_for_each_organization_and_each_client(
    made: Company, throttles: Settings, beta: Company
) -> None:
    throttles.THROTTLE_MAIL_ACCOUNT = "2/hour"
    throttles.THROTTLE_MAIL_ADDRESS = "4/hour"
    assert [ask(made.name).status_code for _ in range(3)] == [202, 202, 429]
    assert ask(beta.name).status_code == 202  # Another's is not used up.
    assert ask(beta.name).status_code == 429
