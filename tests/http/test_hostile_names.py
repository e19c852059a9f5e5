"""Names that took a victim's database from it in the first edition."""

import psycopg
import pytest

from accounts.models import User
from organizations import tenancy
from organizations.models import Organization
from tests.conftest import Company

from .server import WebServer, assert_one_shape

Superuser = psycopg.Connection[tuple[object, ...]]
# alpha, the victim, is `Acme Corp`, and its database org_acme_corp.
NAMES = [
    'O\'Reilly "Q"; DROP DATABASE postgres; --',
    "株式会社",
    "n?dbname=org_acme_corp",
    "x' dbname='org_acme_corp",
    "x dbname=org_acme_corp host=/tmp",
    '\t"template1"\t',
    "'template0'",
    "template1",
    "postgres",
    "master_org_db",
    "org_acme_corp",
    "acme/corp",
    "acme.corp",
    "../acme corp",
    "acme corp?",
    'acme corp"; DROP TABLE users; --',
    "%s %(name)s {0} {name}",
    "acme corp\\",
    "acme corp\x1f",
    "\u202eproc emca",
    "Аcme Corp",  # noqa: RUF001 - its first letter is Cyrillic
    "😀",
    "1",
    "null",
]


def databases(superuser: Superuser) -> set[str]:
    return {str(name) for (name,) in superuser.execute("SELECT datname FROM pg_database")}


def people(company: Organization) -> list[tuple[int, str, str]]:
    with tenancy.override(company.tenant):
        return list(User.objects.order_by("id").values_list("id", "email", "password"))


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_gets_a_database_of_its_own_or_a_clear_refusal(
    server: WebServer, alpha: Company, superuser: Superuser, name: str
) -> None:
    before, victims = databases(superuser), people(alpha.organization)
    response = server.sign_up(name, email="attacker@evil.example")
    after = databases(superuser)
    if response.status_code == 201:
        made = Organization.objects.get(pk=response.json()["id"])
        assert after - before == {made.database_name}, "it has no database of its own"
        assert [email for _, email, _ in people(made)] == ["attacker@evil.example"]
        login = server.log_in(name, email="attacker@evil.example")
        assert login.status_code == 200, login.text
    else:
        assert_one_shape(response, 400, 409)
        assert after == before, "a refused name has made a database"
    assert before <= after, "a database is gone"
    assert people(alpha.organization) == victims, "the victim's data have changed"
    assert server.log_in(alpha.name, email=alpha.email).status_code == 200
    assert_one_shape(server.log_in(alpha.name, email="attacker@evil.example"), 401)


@pytest.mark.parametrize("name", ["Acme Corp", "acme-corp", "ACME_CORP", " acme  corp "])
def test_spellings_that_a_person_would_confuse_are_one_organization(
    server: WebServer, alpha: Company, name: str
) -> None:
    assert assert_one_shape(server.sign_up(name), 409)["code"] == "organization_exists"
    found = server.post("/org/get", {"organization_name": name})
    assert (found.status_code, found.json()["id"]) == (200, alpha.organization.pk)
    assert server.log_in(name, email=alpha.email).status_code == 200


def test_two_names_of_200_characters_that_differ_at_the_end_are_two(server: WebServer) -> None:
    first, second = ("x" * 199 + end for end in "ab")
    made = [server.sign_up(name, email=f"admin@{name[-1]}.com") for name in (first, second)]
    assert [response.status_code for response in made] == [201, 201]
    rows = [Organization.objects.get(pk=response.json()["id"]) for response in made]
    assert rows[0].database_name != rows[1].database_name
    assert all(len(row.database_name.encode()) <= 63 for row in rows)
    assert server.log_in(first, email="admin@a.com").status_code == 200
    assert_one_shape(server.log_in(second, email="admin@a.com"), 401)
