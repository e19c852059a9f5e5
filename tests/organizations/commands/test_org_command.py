"""`manage.py org_command`: runs another command inside an organization."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from organizations import lifecycle, tenancy
from tests.conftest import Company
from tests.organizations.helpers import manage_here

SHELL = "from accounts.models import User; print([user.email for user in User.objects.all()])"


def test_shell_runs_inside_the_organization(alpha: Company) -> None:
    ended = manage_here("org_command", "acme-corp", "--", "shell", "-c", SHELL)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == f"['{alpha.email}']"


def test_a_command_that_takes_a_database_gets_the_organizations(
    beta: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("org_command", beta.name, "dumpdata", "accounts.user")
    (user,) = json.loads(capsys.readouterr().out)
    assert user["fields"]["email"] == beta.email


def test_the_alias_is_a_choice_on_the_command_line_too(
    alpha: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere a run-time alias is an invalid choice: they are fixed when the parser is made."""
    call_command("org_command", alpha.name, "showmigrations", "--database", alpha.tenant.alias)
    assert "[X] 0001_initial" in capsys.readouterr().out


def test_a_command_without_a_database_runs_too(
    alpha: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a suspended organization as well."""
    lifecycle.suspend_organization(alpha.organization)
    try:
        call_command("org_command", alpha.name, "shell", "-c", SHELL)
    finally:
        lifecycle.resume_organization(alpha.organization)
    assert alpha.email in capsys.readouterr().out
    assert tenancy.peek() is None, "the organization is left again"


def test_a_command_that_fails_leaves_the_organization_again(alpha: Company) -> None:
    with pytest.raises(ZeroDivisionError):
        call_command("org_command", alpha.name, "shell", "-c", "1 / 0")
    assert tenancy.peek() is None


def test_what_is_unknown_is_said_in_a_sentence(alpha: Company) -> None:
    for name, command, sentence in (
        ("Nobody Ltd", "shell", "There is no organization called 'Nobody Ltd'"),
        ("Acme Corp", "fly", "There is no command 'fly'"),
    ):
        with pytest.raises(CommandError, match=sentence):
            call_command("org_command", name, command, stdout=io.StringIO())
