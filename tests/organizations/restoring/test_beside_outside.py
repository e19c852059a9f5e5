"""restore_org --beside, its REST endpoint and its job, and its choice in the admin."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import OperationalError
from django.test import Client
from procrastinate.contrib.django.models import ProcrastinateJob

from organizations import lifecycle
from organizations.background import restores
from organizations.models import AuditEntry, Organization, Restore, StoredAnswer
from organizations.restoring import beside
from organizations.tenancy import storage
from tests.accounts.helpers import bearer
from tests.conftest import Company

from .helpers import besides, emails, look_at, row_of
from .test_outside import CHANGELIST, command, path, post, work


@pytest.fixture
def moved(backed_up: Company) -> Iterator[Company]:
    yield backed_up
    ProcrastinateJob.objects.filter(task_name=restores.TASK).delete()
    StoredAnswer.objects.all().delete()


def test_staff_order_one_beside_and_are_told_where_it_is(
    moved: Company, staff_client: Client, client: Client
) -> None:
    body = {"beside": True, "name": "Looked At"}
    answer = post(staff_client, moved, key="one", **body)
    told = answer.json()
    assert (answer.status_code, told["state"], told["beside"]) == (202, "waiting", True)
    assert (told["name"], told["id"], told["url"]) == ("Looked At", None, "")
    assert post(staff_client, moved, key="one", **body).json() == told
    assert ProcrastinateJob.objects.filter(task_name=restores.TASK).count() == 1
    asked = AuditEntry.objects.get(
        act="organization.restore_asked", organization_id=moved.organization.pk
    )
    assert (asked.facts["beside"], asked.facts["slug"]) == (True, "looked-at")
    work()
    told = staff_client.get(path(moved)).json()
    assert (told["state"], told["beside"], told["undo_until"]) == ("done", True, None)
    shown = staff_client.get(told["url"]).json()
    assert (shown["id"], shown["name"]) == (told["id"], "Looked At")
    assert shown["cloned_from"] == moved.organization.pk and shown["read_only_until"] is not None
    (row,) = besides()
    assert emails(Company(row, moved.email)) == [moved.email]
    assert emails(moved) == [moved.email, "late@test.com"]
    page = staff_client.get(CHANGELIST).content.decode()
    assert "Read only until" in page

    # An export reads: its people get it.
    here = bearer(Company(row, moved.email).token(client))
    assert here.post("/api/v1/export/").status_code == 202
    lifecycle.delete_organization(row)
    told = staff_client.get(path(moved)).json()
    assert (told["name"], told["id"], told["url"]) == ("Looked At", None, "")


def test_what_a_restore_has_kept_can_be_switched_back_to_after_one_beside(
    moved: Company, staff_client: Client
) -> None:
    kept = lifecycle.restore_organization(row_of(moved))
    look_at(moved)
    told = staff_client.get(path(moved)).json()
    assert kept.kept_until is not None
    assert (told["state"], told["beside"]) == ("done", True)
    assert told["undo_until"] == kept.kept_until.isoformat().replace("+00:00", "Z")
    assert post(staff_client, moved, undo=True).status_code == 202
    work()
    assert emails(moved) == [moved.email, "late@test.com"]


def test_a_wrong_order_is_refused_and_enqueues_nothing(
    moved: Company, staff_client: Client
) -> None:
    for body, status, code in (
        ({"beside": True, "undo": True}, 400, "invalid"),
        ({"name": "Looked At"}, 400, "invalid"),
        ({"beside": True, "name": "---"}, 400, "invalid"),
        ({"beside": True, "name": moved.name}, 409, "organization_exists"),
        ({"beside": True, "at": "2020-01-01T00:00:00Z"}, 409, "backup_not_found"),
    ):
        answer = post(staff_client, moved, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.json()
    assert not ProcrastinateJob.objects.filter(task_name=restores.TASK).exists()


def test_the_admins_form_has_a_choice_and_the_job_takes_the_backups_time(
    moved: Company, staff_client: Client
) -> None:
    chosen = {"action": "restore", "_selected_action": [moved.organization.pk]}
    assert 'name="beside"' in staff_client.post(CHANGELIST, chosen).content.decode()
    done = staff_client.post(CHANGELIST, {**chosen, "confirmed": "yes", "beside": "on"})
    assert done.status_code == 302
    work()
    (row,) = besides()
    assert row.name.startswith(f"{moved.name} as of 20")
    page = staff_client.get(f"{CHANGELIST}{row.pk}/change/").content.decode()
    assert "Read only until:" in page
    asks = {"action": "delete", "_selected_action": [row.pk]}
    page = staff_client.post(CHANGELIST, asks).content.decode()
    assert "A read-only organization is always dropped now" in page
    for act, said in (("restore", "is read-only"), ("backup", "is read-only")):
        refused = {"action": act, "_selected_action": [row.pk], "confirmed": "yes"}
        page = staff_client.post(CHANGELIST, refused, follow=True).content.decode()
        assert said in page


def test_the_command_makes_one_from_a_backup_or_a_file(
    moved: Company, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for wrong in (("--undo",), ("--dry-run",)):
        with pytest.raises(CommandError, match="nothing to undo or to list"):
            command(capsys, moved.name, "--beside", *wrong)
    with pytest.raises(CommandError, match="--as needs --beside"):
        command(capsys, moved.name, "--as", "Looked At", "--yes")
    said = command(capsys, moved.name, "--beside")
    opening = f"Restored a backup of {moved.name} as the organization {moved.name} as of 20"
    assert said.startswith(opening)
    assert "It is read-only, sends no mail, and is dropped after" in said
    (dump,) = folder.glob("*/*/database.dump")
    told = json.loads(
        command(capsys, moved.name, "--beside", "--from", str(dump), "--as", "Filed", "--json")
    )
    assert (told["name"], told["cloned_from"]) == ("Filed", moved.organization.pk)
    row = Organization.objects.get(pk=told["id"])
    assert row.read_only_until is not None
    assert told["read_only_until"] == row.read_only_until.isoformat()
    assert not storage.folder_of(row.key).exists()
    assert Restore.objects.filter(organization_key=row_of(moved).key, is_beside=True).count() == 2
    assert emails(Company(row, moved.email)) == [moved.email]


def test_the_command_says_what_it_made_before_it_was_interrupted(
    moved: Company, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = beside._open
    made: list[str] = []
    for error, expected in ((KeyboardInterrupt, SystemExit), (OperationalError, OperationalError)):
        for is_open in (True, False):
            name = f"{error.__name__} {is_open}"

            def interrupted(
                *arguments: Any,
                is_open: bool = is_open,
                error: type[BaseException] = error,
            ) -> None:
                if is_open:
                    opened(*arguments)
                raise error

            monkeypatch.setattr(beside, "_open", interrupted)
            if is_open:
                said = command(capsys, moved.name, "--beside", "--as", name)
                assert f"Restored a backup of {moved.name} as the organization {name}." in said
                made.append(name)
            else:
                with pytest.raises(expected):
                    command(capsys, moved.name, "--beside", "--as", name)
            assert [row.name for row in besides()] == made, name
