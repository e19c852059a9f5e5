"""manage.py suspend_org, resume_org and rename_org"""

import io
import json
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command

from organizations.models import Organization
from tests.conftest import Company


def run(*words: str) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_each_says_what_it_did(company: Callable[..., Company]) -> None:
    made = company("Commanded Ltd")
    words = ("suspend_org", "commanded-ltd", "--reason", "unpaid", "--message", "Pay, please.")
    assert run(*words) == "Suspended organization Commanded Ltd.\n"
    row = Organization.objects.get(pk=made.organization.pk)
    assert (row.status_reason, row.status_message) == ("unpaid", "Pay, please.")
    assert run("rename_org", "COMMANDED LTD", "Renamed Ltd") == (
        "Renamed organization Commanded Ltd to Renamed Ltd.\n"
    )
    assert run("resume_org", "Commanded Ltd") == "Resumed organization Renamed Ltd.\n"


def test_json_is_the_organization_afterwards(company: Callable[..., Company]) -> None:
    made = company("Commanded Ltd")
    wanted = {
        "id": made.organization.pk,
        "name": "Commanded Ltd",
        "slug": "commanded-ltd",
        "database": made.organization.database_name,
    }
    said = json.loads(run("suspend_org", "Commanded Ltd", "--json"))
    assert said == wanted | {"status": "suspended"}
    said = json.loads(run("resume_org", "Commanded Ltd", "--json"))
    assert said == wanted | {"status": "active"}
    said = json.loads(run("rename_org", "Commanded Ltd", "Renamed Ltd", "--json"))
    renamed = {"name": "Renamed Ltd", "slug": "renamed-ltd", "status": "active"}
    assert said == wanted | renamed


def test_what_is_refused_ends_with_a_sentence(alpha: Company, beta: Company) -> None:
    for words, sentence in (
        (("suspend_org", "Nobody Ltd"), "There is no organization called 'Nobody Ltd'"),
        (("resume_org", alpha.name), "is active; it must be suspended"),
        (("suspend_org", alpha.name, "--message", "a\nb"), "message: Use plain text on one line"),
        (("rename_org", alpha.name, beta.name), "is taken"),
        (("rename_org", alpha.name, "\udcff"), "name: Remove control characters"),
    ):
        with pytest.raises(CommandError, match=sentence):
            call_command(*words)


def test_a_deletion_wants_the_name_of_now(company: Callable[..., Company]) -> None:
    made = company("Commanded Ltd")
    run("rename_org", "Commanded Ltd", "Renamed Ltd")
    with pytest.raises(CommandError, match="There is no organization called"):
        call_command("delete_org", "Commanded Ltd", yes=True)
    assert Organization.objects.get(pk=made.organization.pk).status == "active"
