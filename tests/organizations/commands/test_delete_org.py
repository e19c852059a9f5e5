"""manage.py delete_org"""

import io
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command

from organizations import lifecycle
from organizations.models import Organization
from tests.conftest import Company, leftovers
from tests.organizations.helpers import Superuser, manage


def status_of(company: Company) -> str:
    return Organization.objects.get(pk=company.organization.pk).status


def test_typing_the_name_deletes_the_organization(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch, superuser: Superuser
) -> None:
    made, out = company("Ending Ltd"), io.StringIO()
    monkeypatch.setattr("builtins.input", lambda prompt: "Ending Ltd")
    call_command("delete_org", "ending-ltd", stdout=out)
    assert "deletes the database org_ending_ltd and everything in it" in out.getvalue()
    assert status_of(made) == "deleted"
    assert leftovers(superuser) == (set(), set())


@pytest.mark.parametrize("typed", ["", "y", "yes", "ending-ltd"])
def test_typing_anything_else_deletes_nothing(
    alpha: Company, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: typed)
    with pytest.raises(CommandError, match="Nothing was deleted"):
        call_command("delete_org", alpha.name, stdout=io.StringIO())
    assert status_of(alpha) == "active"


def test_an_ended_input_deletes_nothing(alpha: Company) -> None:
    ended = manage("delete_org", alpha.name)
    assert ended.returncode == 1
    assert "Nothing was deleted" in ended.stderr
    assert status_of(alpha) == "active"


def test_yes_asks_nothing(company: Callable[..., Company]) -> None:
    made = company("Quick Ltd")
    ended = manage("delete_org", "Quick Ltd", "--yes")
    assert (ended.returncode, ended.stdout) == (0, "Deleted organization Quick Ltd.\n")
    assert status_of(made) == "deleted"


def test_a_suspended_organization_can_be_deleted(company: Callable[..., Company]) -> None:
    made = company("Paused Ltd")
    lifecycle.suspend_organization(made.organization)
    call_command("delete_org", "Paused Ltd", yes=True, stdout=io.StringIO())
    assert status_of(made) == "deleted"


@pytest.mark.parametrize("name", ["Nobody Ltd", "\udcff"])
def test_an_unknown_name_ends_with_a_sentence(name: str) -> None:
    """The second is what Python makes of an argument that is no UTF-8."""
    with pytest.raises(CommandError, match="There is no organization called"):
        call_command("delete_org", name, yes=True)
