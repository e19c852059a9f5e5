"""Django's own commands on the wrong database: they end with a sentence, and never say "done"."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from organizations import tenancy
from organizations.models import Server
from tests.conftest import Company


def inside(organization: Company, *words: str) -> str:
    """What the command says that org_command runs."""
    with pytest.raises(CommandError) as caught:
        call_command("org_command", organization.name, *words)
    return str(caught.value)


def test_data_of_the_other_side_are_not_dumped_as_nothing(alpha: Company) -> None:
    with pytest.raises(CommandError, match="accounts: in the organizations' databases"):
        call_command("dumpdata", "accounts.user", stdout=io.StringIO())
    said = inside(alpha, "dumpdata", "organizations")
    assert said.startswith("organizations: in the master, not in an organization's")

    out, err = io.StringIO(), io.StringIO()
    call_command("dumpdata", stdout=out, stderr=err)
    assert {"organizations.server"} <= {row["model"] for row in json.loads(out.getvalue())}
    assert err.getvalue().startswith("Skipped accounts: in the organizations' databases")


def test_data_of_the_other_side_are_not_loaded_as_nothing(
    alpha: Company, company: Callable[..., Company], tmp_path: Path
) -> None:
    users, servers = tmp_path / "users.json", tmp_path / "servers.json"
    call_command("org_command", alpha.name, "dumpdata", "accounts.user", "-o", str(users))
    call_command("dumpdata", "organizations.server", output=str(servers))
    with pytest.raises(CommandError, match="accounts.User belongs to an organization's database"):
        call_command("loaddata", str(users), verbosity=0)
    assert "organizations.Server belongs to the master" in inside(alpha, "loaddata", str(servers))

    made = company()
    call_command("org_command", made.name, "loaddata", str(users), "--verbosity", "0")
    with tenancy.override(made.tenant):
        assert User.objects.get().email == alpha.email
    call_command("loaddata", str(servers), verbosity=0)
    assert Server.objects.count() == 1


def test_staff_are_not_looked_for_in_an_organization(alpha: Company) -> None:
    for command in ("createsuperuser", "changepassword"):
        said = inside(alpha, command)
        assert "platform staff, in the master" in said
        assert f"manage.py create_admin '{alpha.name}' --email ADDRESS" in said
