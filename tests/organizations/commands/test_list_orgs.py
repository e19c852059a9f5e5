"""`manage.py list_orgs`: lists and finds organizations, also as JSON."""

import io
import json
from collections.abc import Callable
from typing import Any

from django.core.management import call_command

from organizations import lifecycle
from tests.conftest import Company


def listed(*texts: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("list_orgs", *texts, stdout=out, **options)
    return out.getvalue()


def test_each_organization_is_a_line_and_the_last_one_says_how_many(
    alpha: Company, beta: Company
) -> None:
    head, *lines, total = listed().splitlines()
    assert head.split() == ["id", "status", "created", "slug", "database", "e-mail", "name"]
    assert total == f"{len(lines)} organizations"
    (line,) = [line for line in lines if line.endswith("  Acme Corp")]
    day = alpha.organization.created_at.date().isoformat()
    facts = [str(alpha.organization.pk), "active", day, "acme-corp", "org_acme_corp", alpha.email]
    assert line.split() == [*facts, "Acme", "Corp"]


def test_json_is_one_document(alpha: Company, beta: Company) -> None:
    document = json.loads(listed(json=True))
    found = {each["name"]: each for each in document["organizations"]}
    assert document["counts"]["organizations"] == len(found)
    assert found["Acme Corp"]["admin_email"] == alpha.email
    assert found["Acme Corp"]["created_at"] == alpha.organization.created_at.isoformat()
    facts = {"id", "name", "slug", "status", "database", "admin_email", "created_at"}
    facts |= {"kept_until", "cloned_from", "read_only_until"}
    assert set(found["Acme-Corp 2"]) == facts


def test_a_text_finds_by_name_slug_database_or_address(alpha: Company, beta: Company) -> None:
    assert listed("ACME_CORP-2").splitlines()[1:] == listed("acme-corp 2").splitlines()[1:]
    for text in ("Corp 2", "beta.EXAMPLE", "acme_corp_2"):
        _, line, total = listed(text).splitlines()
        assert (line.endswith("  Acme-Corp 2"), total) == (True, "1 organization"), text
    assert listed("Acme", status="suspended").splitlines()[1:] == ["0 organizations"]


def test_tombstones_are_listed_on_demand_alone(company: Callable[..., Company]) -> None:
    made = company("Gone Ltd")
    lifecycle.delete_organization(made.organization)
    assert "Gone Ltd" not in listed()
    assert "Gone Ltd" in listed(all=True)
    assert "Gone Ltd" in listed(status="deleted")
