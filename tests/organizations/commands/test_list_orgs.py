"""manage.py list_orgs"""

import io
import json
from collections.abc import Callable

from django.core.management import call_command

from organizations import services
from tests.conftest import Company
from tests.organizations.helpers import manage


def listed(**options: bool) -> str:
    out = io.StringIO()
    call_command("list_orgs", stdout=out, **options)
    return out.getvalue()


def test_each_organization_is_a_line_with_its_status_slug_and_database(alpha: Company) -> None:
    (line,) = [line for line in listed().splitlines() if line.endswith("  Acme Corp")]
    number = str(alpha.organization.pk)
    assert line.split() == [number, "active", "acme-corp", "org_acme_corp", "Acme", "Corp"]


def test_json_is_one_object_a_line(alpha: Company, beta: Company) -> None:
    ended = manage("list_orgs", "--json")
    assert ended.returncode == 0, ended.stderr
    facts = [json.loads(line) for line in ended.stdout.splitlines()]
    assert {"Acme Corp", "Acme-Corp 2"} <= {each["name"] for each in facts}
    assert set(facts[0]) == {"id", "status", "slug", "database", "name"}


def test_tombstones_are_listed_on_demand_alone(company: Callable[..., Company]) -> None:
    made = company("Gone Ltd")
    services.delete_organization(made.organization)
    assert "Gone Ltd" not in listed()
    assert "Gone Ltd" in listed(all=True)
