"""Requesting a clone: by REST, in the admin, by clone_org. And a clone sends no mail."""

import io
import json
import secrets
import signal
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from accounts.models import User
from accounts.services import create_user
from organizations import lifecycle, tenancy
from organizations.api import serializers
from organizations.cloning import clone as cloning
from organizations.jobs.models import SealedAddress
from organizations.models import AuditEntry, Organization, Staff, StoredAnswer
from tests.accounts.helpers import client_of, send
from tests.accounts.link_helpers import ask
from tests.conftest import PASSWORD, Company
from tests.organizations.backups.helpers import execute
from tests.organizations.helpers import Fork, kill_in_a_fork, kill_this_process
from tests.organizations.jobs.helpers import clear, work

from .helpers import clone

LIST = "/api/v1/organizations/"


@pytest.fixture(autouse=True)
def _empty_queue(_database: None) -> Iterator[None]:
    clear()
    yield
    clear()
    StoredAnswer.objects.all().delete()


def post(client: Client, company: Company, key: str | None = None, **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    path = f"{LIST}{company.organization.pk}/clone/"
    return client.post(path, body, content_type="application/json", headers=headers)


def state(client: Client, company: Company) -> dict[str, Any]:
    response = client.get(f"{LIST}{company.organization.pk}/clone/")
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


# --- By REST --------------------------------------------------------------------------------------
def test_staff_ask_for_a_clone_and_see_how_far_it_is(staff_client: Client, made: Company) -> None:
    assert state(staff_client, made)["state"] == "none"
    response = post(staff_client, made, name=" Asked  For ")
    waiting = {"state": "waiting", "name": "Asked For", "exact": False, "step": "", "error": ""}
    assert (response.status_code, response.json()) == (202, {**waiting, "id": None})
    assert state(staff_client, made) == response.json()
    work()
    done = state(staff_client, made)
    new = Organization.objects.get(pk=done["id"])
    assert (done["state"], done["step"], new.name) == ("done", "done", "Asked For")
    assert staff_client.get(f"{LIST}{new.pk}/").json()["cloned_from"] == made.organization.pk
    with tenancy.override(new.tenant):
        assert User.objects.get().email.endswith("@example.invalid")
    entries = AuditEntry.objects.filter(organization_id=made.organization.pk, act__contains="clone")
    assert [(entry.act, entry.actor, entry.facts["exact"]) for entry in entries.order_by("pk")] == [
        ("organization.clone_asked", "staff", False),
        ("organization.cloned", "system", False),
    ]


def test_a_browser_gets_pages(staff_client: Client, made: Company) -> None:
    path, page = f"{LIST}{made.organization.pk}/clone/", {"Accept": "text/html"}
    asked = staff_client.post(path, {"name": "By A Form", "exact": "true"}, headers=page)
    assert (asked.status_code, asked["Content-Type"]) == (202, "text/html; charset=utf-8")
    shown = staff_client.get(path, headers=page)
    assert shown.status_code == 200
    assert "waiting" in shown.content.decode() and 'name="exact"' in shown.content.decode()


def test_what_is_wrong_is_said_at_once_or_by_the_state(
    staff_client: Client, made: Company, beta: Company
) -> None:
    for body, field in (({}, "name"), ({"name": "---"}, "name"), ({"exact": "x"}, "exact")):
        response = post(staff_client, made, **{"name": "Fine", **body} if body else {})
        assert (response.status_code, set(response.json()["fields"])) == (400, {field}), body
    assert post(staff_client, made, name=beta.name).status_code == 409
    assert staff_client.post(f"{LIST}999999999/clone/", {"name": "X"}).status_code == 404
    assert post(staff_client, made, name="Asked Twice").status_code == 202
    assert post(staff_client, made, name="asked-twice").json()["code"] == "organization_exists"
    execute(made, "ALTER TABLE users RENAME TO mine", "CREATE VIEW users AS SELECT * FROM mine")
    work()
    failed = state(staff_client, made)
    assert (failed["state"], failed["id"]) == ("failed", None)
    assert failed["error"].startswith("backup_obstructed: ")
    assert not Organization.objects.live().exclude(cloned_from=None).exists()


def test_a_repeat_with_the_same_key_asks_for_no_second_one(
    staff_client: Client, made: Company
) -> None:
    first = post(staff_client, made, "key", name="Asked Once", exact=True)
    work()
    again = post(staff_client, made, "key", name="Asked Once", exact=True)
    assert (again.status_code, again.json()) == (202, first.json())
    assert post(staff_client, made, "key", name="Asked Once").status_code == 422
    assert ProcrastinateJob.objects.filter(task_name="clone_organization").count() == 1


def test_a_repeat_of_what_a_killed_request_committed_says_how_far_it_is(
    staff_client: Client, made: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(serializers, "CloneOutput", lambda said: kill_this_process())
        kill_in_a_fork(lambda: post(staff_client, made, "key", name="Asked Once"))
    response = post(staff_client, made, "key", name="Asked Once")
    assert (response.status_code, response.json()["state"]) == (202, "waiting")
    assert ProcrastinateJob.objects.filter(task_name="clone_organization").count() == 1


def test_a_job_whose_worker_was_killed_is_done_by_the_next(
    staff_client: Client, made: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle, and right after it was done."""
    post(staff_client, made, name="Made Once")
    key = ProcrastinateJob.objects.get(task_name="clone_organization").args["key"]
    for step in ("change_status", "Cloned"):
        with monkeypatch.context() as patched:
            patched.setattr(cloning, step, lambda *_, **__: kill_this_process())
            kill_in_a_fork(
                lambda: lifecycle.clone_organization(made.organization, name="Made Once", key=key)
            )
    work()
    done = state(staff_client, made)
    assert (done["state"], done["error"]) == ("done", "")
    assert [each.pk for each in Organization.objects.live().named("Made Once")] == [done["id"]]


def test_it_needs_its_own_permission(made: Company, client: Client) -> None:
    staff = Staff.objects.create_user(secrets.token_hex(8), None, PASSWORD, is_staff=True)
    client.force_login(staff)
    try:
        for name in ("view", "change", "add", "suspend", "resume", "rename"):
            staff.user_permissions.add(Permission.objects.get(codename=f"{name}_organization"))
        assert post(client, made, name="Not Yet").status_code == 403
        path = f"{LIST}{made.organization.pk}/clone/"
        assert [client.get(path).status_code, client.head(path).status_code] == [200, 200]
        staff.user_permissions.set([Permission.objects.get(codename="clone_organization")])
        assert post(client, made, name="Now").status_code == 202
        assert [client.get(path).status_code, client.head(path).status_code] == [403, 403]
    finally:
        staff.delete()


# --- In the admin ---------------------------------------------------------------------------------
def test_the_admin_asks_first_and_then_a_worker(staff_client: Client, made: Company) -> None:
    page = "/admin/organizations/organization/"
    data = {"action": "clone", "_selected_action": str(made.organization.pk)}
    asked = unescape(staff_client.post(page, data).content.decode())
    assert "Nobody is logged in to the clone, and it sends no mail" in asked
    assert not ProcrastinateJob.objects.filter(task_name="clone_organization").exists()
    data |= {"confirmed": "yes", "name": "By A Button", "exact": "on"}
    done = staff_client.post(page, data, follow=True).content.decode()
    assert f"Enqueued the clone of {made.name}." in unescape(done)
    work()
    new = Organization.objects.get(name="By A Button")
    with tenancy.override(new.tenant):
        assert User.objects.get().email == made.email
    shown = staff_client.get(f"{page}{new.pk}/change/").content.decode()
    assert "Cloned from:" in shown


# --- clone_org ------------------------------------------------------------------------------------
def test_the_command_says_what_it_did_and_how_to_log_in(made: Company) -> None:
    out, err = io.StringIO(), io.StringIO()
    call_command("clone_org", made.name, "By Command", stdout=out, stderr=err)
    assert out.getvalue().splitlines()[1:] == [
        "Neutralised: accounts.",
        "Nobody can log in yet: manage.py create_admin 'By Command' --email ADDRESS",
    ]
    assert out.getvalue().startswith(f"Cloned organization {made.name} to By Command: ")
    assert "copying files" in err.getvalue()
    words = ("clone_org", made.name, "Exactly", "--exact", "--json")
    out = io.StringIO()
    call_command(*words, stdout=out, stderr=err)
    said = json.loads(out.getvalue())
    assert (said["name"], said["cloned_from"]) == ("Exactly", made.organization.pk)
    assert (said["neutralised"], said["left_as_they_are"]) == ([], [])
    listed, checked = io.StringIO(), io.StringIO()
    call_command("list_orgs", "Exactly", stdout=listed)
    assert f"Exactly (clone of organization {made.organization.pk})" in listed.getvalue()
    call_command("check_orgs", "Exactly", stdout=checked)
    assert f"Exactly (clone of {made.organization.pk})" in checked.getvalue()
    for wrong in ("\udcff", "---", made.name):
        with pytest.raises(CommandError):
            call_command("clone_org", made.name, wrong, stderr=err)


def test_sigterm_leaves_nothing_of_it(
    made: Company, nothing_is_left: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*_: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(cloning, "change_status", terminated)
    with Fork(lambda: call_command("clone_org", made.name, "Never Made")) as child:
        assert child.wait() == 130
    nothing_is_left()


# --- Its mails ------------------------------------------------------------------------------------
def test_a_clone_sends_no_mail(made: Company, settings: Settings) -> None:
    new = Company(clone(made, exact=True).organization, made.email)
    assert ask(new, new.email).status_code == 202
    with tenancy.override(new.tenant):
        admin = User.objects.get()
        create_user(email="other@test.com", password=PASSWORD)
    body = {"email": "moved@test.com", "current_password": PASSWORD}
    assert send(client_of(new, admin), "patch", "/api/v1/me/", body).status_code == 200
    assert SealedAddress.objects.exists(), "a notice to the address of before waits"
    jobs = ProcrastinateJob.objects.filter(task_name="send_mail")
    assert jobs.count() == 3
    work()
    assert set(jobs.values_list("status", flat=True)) == {"succeeded"}
    assert mail.outbox == []
    assert not SealedAddress.objects.exists()
    assert ask(made, made.email).status_code == 202
    work()
    assert [message.to for message in mail.outbox] == [[made.email]], "the original does"

    # What a team's own code mails.
    settings.ORG_EMAIL_BACKEND = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "organizations.tenancy.mail.EmailBackend"
    words = ("Reminder", "Pay, please.", "a@test.com", ["customer@test.com"])
    with tenancy.override(new.tenant):
        assert (mail.send_mail(*words), len(mail.outbox)) == (0, 1)
    with tenancy.override(made.tenant):
        assert (mail.send_mail(*words), len(mail.outbox)) == (1, 2)
    assert (mail.send_mail(*words), len(mail.outbox)) == (1, 3), "of no organization"


def test_a_clone_of_a_clone_is_its_clone(made: Company) -> None:
    first = clone(made).organization
    second = lifecycle.clone_organization(first, name="Second").organization
    assert second.cloned_from == first.pk
