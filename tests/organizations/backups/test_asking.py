"""Requesting a backup, a verification or an export, as staff: by REST and in the admin."""

import re
import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from organizations import lifecycle
from organizations.api import serializers
from organizations.background import asking, enqueueing
from organizations.models import AuditEntry, BackupRun, Organization, Staff, StoredAnswer
from tests.accounts.helpers import bearer
from tests.conftest import PASSWORD, Company
from tests.organizations.helpers import kill_in_a_fork, kill_this_process, together
from tests.organizations.jobs.helpers import clear, work

LIST = "/api/v1/organizations/"
ADMIN = "/admin/organizations/organization/"
RUNS = "/admin/organizations/backuprun/"
TASKS = {
    "backup": "back_up_organization",
    "verify": "verify_backup",
    "export": "export_organization",
}
ENTRIES = {"backup": "backup.asked", "verify": "verification.asked", "export": "export.asked"}


@pytest.fixture(autouse=True)
def made(
    company: Callable[..., Company], folder: Path, settings: Settings, tmp_path: Path
) -> Iterator[Company]:
    """An organization with a good backup, of which nothing is stored."""
    settings.EXPORTS_ROOT = str(tmp_path / "exports")
    clear()
    new = company()
    BackupRun.objects.create(
        organization_id=new.organization.pk,
        organization_key=new.organization.key,
        state=BackupRun.State.GOOD,
        folder=f"{new.organization.key}/old",
    )
    yield new
    clear()
    StoredAnswer.objects.all().delete()


def post(client: Client, company: Company, act: str, key: str | None = None) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    path = f"{LIST}{company.organization.pk}/{act}/"
    return client.post(path, content_type="application/json", headers=headers)


def backups(client: Client, company: Company) -> list[dict[str, Any]]:
    response = client.get(f"{LIST}{company.organization.pk}/backups/")
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = response.json()["results"]
    return found


def jobs(act: str) -> list[ProcrastinateJob]:
    return list(ProcrastinateJob.objects.filter(task_name=TASKS[act]).order_by("pk"))


def entries(company: Company, act: str) -> list[AuditEntry]:
    found = AuditEntry.objects.filter(organization_id=company.organization.pk, act=ENTRIES[act])
    return list(found)


def permission(name: str) -> Permission:
    found: Permission = Permission.objects.get(codename=name)
    return found


# --- REST -----------------------------------------------------------------------------------------
def test_staff_ask_for_a_backup_and_its_verification_and_see_both(
    staff_client: Client, made: Company
) -> None:
    response = post(staff_client, made, "backup")
    (job,) = jobs("backup")
    waiting = {"job": job.pk, "state": "waiting", "step": "", "error": ""}
    assert (response.status_code, response.json()) == (202, waiting)
    assert len(backups(staff_client, made)) == 1, "nothing is done during the request"
    work()
    new, old = backups(staff_client, made)
    assert (new["state"], new["verified_at"], old["state"]) == ("good", None, "good")
    assert new["bytes"] > 0 and made.organization.key not in str(new)
    assert post(staff_client, made, "verify").json()["state"] == "waiting"
    work()
    assert backups(staff_client, made)[0]["verified_at"] is not None
    for act in ("backup", "verify"):
        (entry,) = entries(made, act)
        assert entry.actor == "staff"


def test_only_the_organizations_own_admins_get_the_export_that_staff_ask_for(
    staff_client: Client, made: Company
) -> None:
    assert post(staff_client, made, "export").json()["state"] == "waiting"
    assert post(staff_client, made, "export").status_code == 202
    assert len(jobs("export")) == 1, "one that waits is the one"
    (entry,) = entries(made, "export")
    assert entry.actor == "staff"
    work()
    assert asking.newest("export", made.organization).state == "done"
    body = bearer(made.token(Client())).get("/api/v1/export/").json()
    assert body["state"] == "ready"
    assert staff_client.get(body["url"]).status_code in (401, 403, 404)


def test_a_backup_that_waits_for_the_night_is_brought_forward(
    staff_client: Client, made: Company
) -> None:
    rows = Organization.objects.filter(pk=made.organization.pk)
    enqueueing.back_up(rows, within_seconds=10)
    later = timezone.now() + timedelta(hours=4)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = %s", (later,))
    work()
    assert len(backups(staff_client, made)) == 1
    assert post(staff_client, made, "backup").json()["job"] == jobs("backup")[0].pk
    work()
    assert len(backups(staff_client, made)) == 2
    assert len(jobs("backup")) == 1


def test_what_cannot_be_done_is_refused_at_once(
    staff_client: Client, made: Company, company: Callable[..., Company]
) -> None:
    without = company()
    response = post(staff_client, without, "verify")
    assert (response.status_code, response.json()["code"]) == (409, "backup_not_found")
    lifecycle.delete_organization(made.organization)
    for act in TASKS:
        response = post(staff_client, made, act)
        said = (response.status_code, response.json()["code"])
        assert said == (409, "organization_wrong_state"), act
        assert not jobs(act)
    assert len(backups(staff_client, made)) == 1, "a backup outlives its organization"


def test_a_suspended_organization_is_backed_up_and_its_export_waits(
    staff_client: Client, made: Company
) -> None:
    lifecycle.suspend_organization(made.organization)
    for act in TASKS:
        assert post(staff_client, made, act).status_code == 202
        work()  # One after another: they would wait for each other.
    states = {act: asking.newest(act, made.organization).state for act in TASKS}  # type: ignore[arg-type]
    assert states == {"backup": "done", "verify": "done", "export": "waiting"}
    lifecycle.resume_organization(Organization.objects.get(pk=made.organization.pk))
    work()
    assert asking.newest("export", made.organization).state == "done"


def test_each_needs_its_own_permission_and_so_does_the_list(made: Company, client: Client) -> None:
    staff = Staff.objects.create_user(secrets.token_hex(8), None, PASSWORD, is_staff=True)
    client.force_login(staff)
    try:
        for name in ("view_organization", "change_organization", "add_organization"):
            staff.user_permissions.add(permission(name))
        for act in TASKS:
            others = [permission(f"{other}_organization") for other in TASKS if other != act]
            staff.user_permissions.add(*others)
            assert post(client, made, act).status_code == 403
            assert not jobs(act)
            staff.user_permissions.remove(*others)
            staff.user_permissions.add(permission(f"{act}_organization"))
            assert post(client, made, act).status_code == 202
            staff.user_permissions.remove(permission(f"{act}_organization"))
        path = f"{LIST}{made.organization.pk}/backups/"
        assert client.get(path).status_code == 403
        staff.user_permissions.add(permission("view_backuprun"))
        assert client.get(path).status_code == 200
    finally:
        staff.delete()
    headers = {"Authorization": f"Bearer {made.token(Client())}"}
    assert Client().get(path, headers=headers).status_code == 403


# --- Idempotency-Key ------------------------------------------------------------------------------
def test_a_repeat_gets_the_first_answer_and_asks_for_nothing(
    staff_client: Client, made: Company
) -> None:
    for act in TASKS:
        first = post(staff_client, made, act, act)
        assert first.status_code == 202, act
        work()
        again = post(staff_client, made, act, act)
        assert (again.status_code, again.json()) == (202, first.json())
        assert len(jobs(act)) == len(entries(made, act)) == 1
        other = "verify" if act == "backup" else "backup"
        assert post(staff_client, made, other, act).status_code == 422
        assert made.organization.key not in str(list(StoredAnswer.objects.values()))


def test_a_repeat_of_a_killed_request_asks_once(
    staff_client: Client, made: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count, owner, name in (
        (1, Organization, "require_usable"),  # before it begins
        (2, serializers, "AskedOutput"),  # before it answers
    ):
        for act in TASKS:
            key = f"{act} {count}"
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, lambda _: kill_this_process())
                kill_in_a_fork(partial(post, staff_client, made, act, key))
            assert len(jobs(act)) == (name == "AskedOutput")
            response = post(staff_client, made, act, key)
            (job,) = jobs(act)
            assert (response.status_code, response.json()["job"]) == (202, job.pk)
            assert len(entries(made, act)) == count
        clear()


def test_of_many_at_once_one_asks(staff_client: Client, made: Company) -> None:
    results: list[Any] = together(
        *[partial(post, staff_client, made, "backup", "key") for _ in range(5)],
        *[partial(post, staff_client, made, "backup") for _ in range(3)],
    )
    assert {each.status_code for each in results} <= {202, 409}
    assert {each.status_code for each in results[5:]} == {202}
    assert len(jobs("backup")) == 1


# --- The admin ------------------------------------------------------------------------------------
def text(response: Any) -> str:
    assert response.status_code == 200
    return unescape(response.content.decode())


def test_the_admin_asks_first_and_says_what_will_happen(
    staff_client: Client, made: Company
) -> None:
    says = {
        "backup": "A worker backs up the database and the files",
        "verify": "restores the newest good backup into a throw-away database",
        "export": "Only the organization's own admins can download it",
    }
    labels = {"backup": "Back up…", "verify": "Verify the newest backup…", "export": "Export for "}
    change = text(staff_client.get(f"{ADMIN}{made.organization.pk}/change/"))
    for act in TASKS:
        (button,) = re.findall(rf'name="action" value="{act}".*?<button.*?>(.*?)</b', change, re.S)
        assert button.startswith(labels[act])
        data = {"action": act, "_selected_action": [str(made.organization.pk)]}
        assert says[act] in text(staff_client.post(ADMIN, data))
        assert not jobs(act)
        done = text(staff_client.post(ADMIN, {**data, "confirmed": "yes"}, follow=True))
        assert re.search(rf"Enqueued the \w+ of {re.escape(made.name)}\.", done)
        assert len(jobs(act)) == len(entries(made, act)) == 1


def test_the_admin_lists_backups_for_reading(staff_client: Client, made: Company) -> None:
    (run,) = BackupRun.objects.all()
    for query in (made.name, str(made.organization.pk)):
        page = text(staff_client.get(RUNS, {"q": query}))
        assert made.name in page and "Good" in page
        assert 'name="action"' not in page and "Add backup" not in page
    assert made.name not in text(staff_client.get(RUNS, {"q": "nobody's"}))
    page = text(staff_client.get(f"{RUNS}{run.pk}/change/"))
    assert run.folder in page and 'name="_save"' not in page
    for path in ("add/", f"{run.pk}/delete/"):
        assert staff_client.post(f"{RUNS}{path}").status_code == 403
    assert BackupRun.objects.count() == 1
