"""manage.py delete_org and undelete_org, while there is a grace."""

import io
import json
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from organizations.backups import making
from organizations.models import BackupRun
from tests.conftest import Company

from .helpers import Status, row_of


def run(*words: str) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_it_says_how_long_it_is_kept_and_undelete_org_brings_it_back(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = company("Commanded Ltd")
    monkeypatch.setattr("builtins.input", lambda prompt: "Commanded Ltd")
    said = run("delete_org", "commanded-ltd")
    assert "keeps the database org_commanded_ltd aside for 30 days" in said
    until = row_of(made).kept_until
    assert until is not None
    assert f"Until {until:%Y-%m-%d %H:%M} UTC undelete_org brings it back" in said
    listed = json.loads(run("list_orgs", "Commanded", "--json"))["organizations"]
    assert [each["kept_until"] for each in listed] == [until.isoformat()]
    said = run("undelete_org", "COMMANDED LTD", "--as", "Commanded Again Ltd")
    assert said == "Undeleted organization Commanded Again Ltd: it is active.\n"


def test_one_without_its_name_is_found_by_its_id(company: Callable[..., Company]) -> None:
    first = company("Twice Ltd")
    number = str(first.organization.pk)
    said = json.loads(run("delete_org", "Twice Ltd", "--free-name", "--yes", "--json"))
    assert (said["id"], said["status"]) == (first.organization.pk, "trashed")
    second = company("Twice Ltd")
    said = json.loads(run("undelete_org", "--id", number, "--as", "Once Ltd", "--json"))
    assert (said["name"], said["status"], said["kept_until"]) == ("Once Ltd", "active", None)
    run("delete_org", "--id", number, "--now", "--without-backup", "--yes")
    run("delete_org", "--yes", "--free-name", "--", "Twice Ltd")
    assert row_of(first).status == Status.DELETED and row_of(second).status == Status.TRASHED
    shown = json.loads(run("list_orgs", "Once Ltd", "--all", "--json"))["organizations"][0]
    assert shown["erasure"]["erased_at"] is not None and shown["erasure"]["backups_until"] is None


def test_now_wants_a_verified_backup_or_to_be_told_that_there_is_none(
    company: Callable[..., Company],
) -> None:
    made = company("Commanded Ltd")
    for words, sentence in (
        (("--now",), "has no verified backup from the last 24 hours"),
        (("--without-backup",), "--without-backup needs --now"),
        (("--now", "--free-name"), "Leave out --free-name"),
    ):
        with pytest.raises(CommandError, match=sentence):
            run("delete_org", made.name, "--yes", *words)
    assert row_of(made).status == Status.ACTIVE
    making.back_up(row_of(made))
    BackupRun.objects.update(verified_at=timezone.now())
    assert run("delete_org", made.name, "--yes", "--now") == (
        "Deleted organization Commanded Ltd.\n"
    )
    assert row_of(made).status == Status.DELETED


def test_what_is_refused_ends_with_a_sentence(alpha: Company) -> None:
    for words, sentence in (
        (("undelete_org", "Nobody Ltd"), "There is no organization called 'Nobody Ltd'"),
        (("undelete_org", alpha.name), "There is no organization called"),
        (("undelete_org", "--id", "999999"), "There is no organization called '999999'"),
        (("undelete_org", "--id", str(alpha.organization.pk)), "is active; it must be trashed"),
        (("delete_org", "--id", "999999", "--yes"), "There is no organization called '999999'"),
        (("delete_org", "--yes"), "one of the arguments name --id is required"),
    ):
        with pytest.raises(CommandError, match=sentence):
            call_command(*words)
