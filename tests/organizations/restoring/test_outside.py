"""restore_org, its REST endpoints, its button in the admin, and its job."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.test import Client
from procrastinate.contrib.django.models import ProcrastinateJob

from organizations import lifecycle
from organizations.background import restores
from organizations.background.worker import JobWorker
from organizations.backups import making
from organizations.models import AuditEntry, Restore, Staff, StoredAnswer
from organizations.restoring import switching
from tests.conftest import PASSWORD, Company

from .helpers import add, emails, row_of, the_restore

State = Restore.State
CHANGELIST = "/admin/organizations/organization/"


@pytest.fixture
def moved(made: Company, folder: Path) -> Iterator[Company]:
    """It has a backup, and another user since."""
    making.back_up(made.organization)
    add(made, "late@test.com")
    yield made
    ProcrastinateJob.objects.filter(task_name=restores.TASK).delete()
    StoredAnswer.objects.all().delete()


def path(company: Company) -> str:
    return f"/api/v1/organizations/{company.organization.pk}/restore/"


def post(client: Client, company: Company, key: str | None = None, **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(path(company), body, content_type="application/json", headers=headers)


def work() -> None:
    JobWorker(goes_on=lambda: True, concurrency=1, queues=["backups"], once=True).run()


# --- The command ----------------------------------------------------------------------------------
def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("restore_org", *arguments)
    return capsys.readouterr().out


def test_the_command_lists_who_goes_back_and_asks(
    moved: Company, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandError, match="no terminal to ask at: use --yes, or --dry-run"):
        command(capsys, moved.name)
    said = command(capsys, moved.name, "--dry-run")
    assert "1 users will change." in said
    assert "'late@test.com': gone" in said
    assert ": nothing was switched" in said
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    with pytest.raises(CommandError, match="nothing was changed"):
        command(capsys, moved.name)
    assert emails(moved) == [moved.email, "late@test.com"]
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert "The previous database is kept until" in command(capsys, moved.name)
    assert emails(moved) == [moved.email]
    assert "Undid the restore" in command(capsys, moved.name, "--undo")
    assert emails(moved) == [moved.email, "late@test.com"]

    told = json.loads(command(capsys, moved.name, "--json", "--dry-run"))
    assert (told["restore"], told["users_unknown"]) == (None, "")
    (user,) = told["users"]
    assert (user["email"], user["what"]) == ("late@test.com", ["gone"])
    now = (datetime.now().astimezone() + timedelta(minutes=1)).isoformat()
    told = json.loads(command(capsys, moved.name, "--json", "--yes", "--at", now))
    row = the_restore(moved)
    assert row.backed_up_at is not None and row.kept_until is not None
    assert told["restore"] == row.key
    assert told["backed_up_at"] == row.backed_up_at.isoformat()
    assert told["undo_until"] == row.kept_until.isoformat()
    assert told["database"] == row_of(moved).database_name
    with pytest.raises(CommandError, match="--at must be a time such as"):
        command(capsys, moved.name, "--yes", "--at", "yesterday")
    with pytest.raises(CommandError, match="There is no good backup of .* until 2020"):
        command(capsys, moved.name, "--yes", "--at", "2020-01-01")


# --- REST and the job -----------------------------------------------------------------------------
def test_staff_order_a_restore_see_how_far_it_is_and_undo_it(
    moved: Company, staff_client: Client
) -> None:
    assert staff_client.get(path(moved)).json()["state"] == "none"
    answer = post(staff_client, moved, key="one")
    assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    again = post(staff_client, moved, key="one")
    assert (again.status_code, again.json()) == (202, answer.json())
    assert ProcrastinateJob.objects.filter(task_name=restores.TASK).count() == 1
    refused = post(staff_client, moved)
    assert (refused.status_code, refused.json()["code"]) == (409, "restore_running")
    work()
    told = staff_client.get(path(moved)).json()
    assert (told["state"], told["undo"], told["users"]) == ("done", False, {"gone": 1})
    assert told["undo_until"] is not None and told["backed_up_at"] is not None
    assert emails(moved) == [moved.email]
    asked = AuditEntry.objects.get(
        act="organization.restore_asked", organization_id=moved.organization.pk
    )
    assert (asked.actor, asked.facts["restore"]) == ("staff", the_restore(moved).key)

    assert post(staff_client, moved, undo=True).status_code == 202
    work()
    told = staff_client.get(path(moved)).json()
    assert (told["state"], told["undo"]) == ("done", True)
    assert emails(moved) == [moved.email, "late@test.com"]


def test_one_that_begins_while_its_state_is_read_is_running(
    moved: Company, staff_client: Client
) -> None:
    assert post(staff_client, moved).status_code == 202
    job = ProcrastinateJob.objects.get(task_name=restores.TASK)
    begun: list[Restore] = []

    def begin(execute: Any, query: str, params: Any, many: bool, context: Any) -> Any:
        found = execute(query, params, many, context)
        if 'FROM "restores"' in query and not begun:
            begun.append(Restore(key=job.args["key"], organization_id=moved.organization.pk))
            begun[0].organization_key = moved.organization.key
            begun[0].save()
        return found

    with connections["default"].execute_wrapper(begin):
        assert restores.newest(moved.organization).state in ("waiting", "running")
    begun[0].delete()


def test_a_wrong_order_is_refused_and_a_job_that_fails_says_why(
    moved: Company, folder: Path, staff_client: Client
) -> None:
    for body, status, code in (
        ({"at": "2020-01-01T00:00:00Z"}, 409, "backup_not_found"),
        ({"undo": True}, 409, "restore_not_found"),
        ({"at": "soon"}, 400, "invalid"),
        ({"undo": True, "at": "2026-01-01T00:00:00Z"}, 400, "invalid"),
    ):
        answer = post(staff_client, moved, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.json()
    assert not ProcrastinateJob.objects.filter(task_name=restores.TASK).exists()
    (run,) = Path(folder).glob("*/*")
    (run / "database.dump").unlink()
    assert post(staff_client, moved).status_code == 202
    work()
    told = staff_client.get(path(moved)).json()
    assert told["state"] == "failed"
    assert "database.dump is missing" in told["error"]
    assert emails(moved) == [moved.email, "late@test.com"]


def test_a_job_whose_worker_died_after_the_switch_does_not_restore_again(
    moved: Company, staff_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert post(staff_client, moved).status_code == 202

    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(switching, "finish", die)
    job = ProcrastinateJob.objects.get(task_name=restores.TASK)
    with pytest.raises(KeyboardInterrupt):
        lifecycle.restore_organization(row_of(moved), key=job.args["key"])
    assert staff_client.get(path(moved)).json()["state"] == "switching"
    monkeypatch.undo()
    work()
    assert Restore.objects.filter(organization_id=moved.organization.pk).count() == 1
    assert the_restore(moved).state == State.DONE
    assert emails(moved) == [moved.email]


def test_a_job_restores_or_undoes_what_was_meant_when_it_was_asked_for(
    moved: Company, staff_client: Client
) -> None:
    """It can wait for the nightly backup of just what was destroyed, or for another's undo."""
    assert post(staff_client, moved).status_code == 202
    making.back_up(moved.organization)
    work()
    assert emails(moved) == [moved.email]
    assert post(staff_client, moved, undo=True).status_code == 202
    lifecycle.undo_restore(row_of(moved))
    work()
    assert emails(moved) == [moved.email, "late@test.com"]
    assert staff_client.get(path(moved)).json()["state"] == "failed"


def test_each_needs_the_permission_of_restoring(moved: Company) -> None:
    staff = Staff.objects.create_user("sam", None, PASSWORD, is_staff=True)
    client = Client()
    client.force_login(staff)
    try:
        staff.user_permissions.set(
            Permission.objects.filter(
                codename__in=("view_organization", "rename_organization", "suspend_organization")
            )
        )
        assert post(client, moved).status_code == 403
        assert client.get(path(moved)).status_code == 200
        staff.user_permissions.set(Permission.objects.filter(codename="restore_organization"))
        assert client.get(path(moved)).status_code == 403
        assert post(client, moved).status_code == 202
    finally:
        staff.delete()


# --- Django admin ---------------------------------------------------------------------------------
def test_the_button_asks_first_and_enqueues(moved: Company, staff_client: Client) -> None:
    chosen = {"action": "restore", "_selected_action": [moved.organization.pk]}
    page = staff_client.post(CHANGELIST, chosen).content.decode()
    assert "Requests are served until the switch" in page
    assert not ProcrastinateJob.objects.filter(task_name=restores.TASK).exists()
    answer = staff_client.post(CHANGELIST, {**chosen, "confirmed": "yes"}, follow=True)
    assert f"Enqueued the restore of {moved.name}." in answer.content.decode()
    work()
    assert emails(moved) == [moved.email]
    page = staff_client.get(f"{CHANGELIST}{moved.organization.pk}/change/").content.decode()
    assert 'value="restore"' in page
    answer = staff_client.post(
        CHANGELIST, {**chosen, "confirmed": "yes", "undo": "on", "at": "2026-01-01"}
    )
    assert "Leave out the time: an undo has none." in answer.content.decode()
    staff_client.post(CHANGELIST, {**chosen, "confirmed": "yes", "undo": "on"})
    work()
    assert emails(moved) == [moved.email, "late@test.com"]
