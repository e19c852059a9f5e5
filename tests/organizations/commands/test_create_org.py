"""`manage.py create_org`: signs an organization up, with the password from a terminal or a pipe."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.models import Organization
from tests.conftest import PASSWORD, Company, leftovers
from tests.organizations.helpers import Superuser, manage_here


def delete(name: str) -> Organization:
    organization = lifecycle.find_organization(name)
    lifecycle.delete_organization(organization)
    return organization


def test_it_prints_what_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORG_ADMIN_PASSWORD", PASSWORD)
    out = io.StringIO()
    call_command("create_org", "Printed Ltd", email="boss@test.com", stdout=out)
    organization = delete("Printed Ltd")
    words = out.getvalue().split()
    for fact in (str(organization.pk), "printed-ltd", "org_printed_ltd", "seconds"):
        assert fact in words, out.getvalue()
    assert PASSWORD not in out.getvalue()


def test_json_from_a_process_with_the_password_on_standard_input() -> None:
    ended = manage_here(
        "create_org",
        "株式会社 Piped",
        "--email=boss@test.com",
        "--password-stdin",
        "--json",
        stdin=f"{PASSWORD}\n",
    )
    assert ended.returncode == 0, ended.stderr
    facts = json.loads(ended.stdout)
    organization = lifecycle.find_organization("株式会社 Piped")
    with tenancy.override(organization.tenant):
        assert User.objects.get().check_password(PASSWORD), "the line's end is no part of it"
    lifecycle.delete_organization(organization)
    assert facts["id"] == organization.pk
    assert (facts["name"], facts["slug"]) == ("株式会社 Piped", organization.slug)
    assert facts["database"] == organization.database_name
    assert facts["seconds"] > 0
    assert facts["path"] in ("plain", "template")
    assert set(facts["steps"]) > {"lock", "row", "role", "database", "schema", "hash", "admin"}


def test_what_is_wrong_is_a_sentence_and_nothing_is_left(
    superuser: Superuser, alpha: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORG_ADMIN_PASSWORD", "12345678")
    with pytest.raises(CommandError, match=r"(?s)email: .*; password: This password is too common"):
        call_command("create_org", "Weak Ltd", email="nobody")
    monkeypatch.setenv("ORG_ADMIN_PASSWORD", PASSWORD)
    with pytest.raises(CommandError, match="^The name 'acme_corp' is taken") as caught:
        call_command("create_org", "acme_corp", email="a@test.com")
    assert "\n" not in str(caught.value)
    superuser.execute("ALTER ROLE orgmgmt NOCREATEDB")
    try:
        with pytest.raises(CommandError, match=r"could not be created: permission denied\."):
            call_command("create_org", "Denied Ltd", email="a@test.com")
    finally:
        superuser.execute("ALTER ROLE orgmgmt CREATEDB")
    assert not Organization.objects.named("Denied Ltd").exists()
    assert leftovers(superuser) == (set(), set())


def test_without_a_terminal_and_a_password_it_says_how_to_give_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ORG_ADMIN_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(CommandError, match="--password-stdin, or set ORG_ADMIN_PASSWORD"):
        call_command("create_org", "Silent Ltd", email="a@test.com")


class Terminal(io.StringIO):
    """Standard input as a terminal's."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_password_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORG_ADMIN_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", Terminal())
    answers = iter([PASSWORD, "something else", PASSWORD, PASSWORD])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    with pytest.raises(CommandError, match="do not match. Nothing was created"):
        call_command("create_org", "Typed Ltd", email="a@test.com")
    assert not Organization.objects.live().named("Typed Ltd").exists()
    call_command("create_org", "Typed Ltd", email="a@test.com", stdout=io.StringIO())
    delete("Typed Ltd")
