"""`manage.py delete_org`: deletes an organization after confirmation."""

import io
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command

from organizations import lifecycle
from organizations.models import Organization
from tests.conftest import Company, leftovers
from tests.organizations.helpers import Superuser


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


def test_typing_anything_else_or_nothing_deletes_nothing(
    alpha: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    for typed in ("\n", "y\n", "yes\n", "ending-ltd\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        with pytest.raises(CommandError, match="Nothing was deleted"):
            call_command("delete_org", alpha.name, stdout=io.StringIO())
        assert status_of(alpha) == "active"


def test_yes_asks_nothing_and_a_suspended_organization_can_be_deleted(
    company: Callable[..., Company],
) -> None:
    made, out = company("Paused Ltd"), io.StringIO()
    lifecycle.suspend_organization(made.organization)
    call_command("delete_org", "Paused Ltd", yes=True, stdout=out)
    assert out.getvalue() == "Deleted organization Paused Ltd.\n"
    assert status_of(made) == "deleted"


def test_an_unknown_name_ends_with_a_sentence() -> None:
    # The second is what Python makes of an argument that is no UTF-8.
    for name in ("Nobody Ltd", "\udcff"):
        with pytest.raises(CommandError, match="There is no organization called"):
            call_command("delete_org", name, yes=True)
