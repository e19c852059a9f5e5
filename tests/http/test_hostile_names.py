"""Hostile organization names: in the first edition they took a victim's database."""

import psycopg

from accounts.models import User
from organizations import tenancy
from organizations.models import Organization
from tests.conftest import Company

from .server import WebServer, assert_one_shape

Superuser = psycopg.Connection[tuple[object, ...]]
# alpha, the victim, is `Acme Corp`, and its database org_acme_corp.
NAMES = [
    'O\'Reilly "Q"; DROP DATABASE postgres; --',
    "n?dbname=org_acme_corp",
    "x' dbname='org_acme_corp",
    'evil" TEMPLATE "org_acme_corp',
    '\t"template1"\t',
    "master_org_db",
    "org_acme_corp",
    "../acme corp",
    "%s %(name)s {0} {name}",
    "acme corp\x1f",
    "\u202eproc emca",
    "Аcme Corp",  # noqa: RUF001 - its first letter is Cyrillic
    "😀",
]


def databases(superuser: Superuser) -> set[str]:
    return {str(name) for (name,) in superuser.execute("SELECT datname FROM pg_database")}


def people(company: Organization) -> list[tuple[int, str, str]]:
    with tenancy.override(company.tenant):
        return list(User.objects.order_by("id").values_list("id", "email", "password"))


def test_a_hostile_name_gets_a_database_of_its_own_or_is_refused(
    server: WebServer, alpha: Company, superuser: Superuser
) -> None:
    victims, refused = people(alpha.organization), []
    for name in NAMES:
        before = databases(superuser)
        response = server.sign_up(name, email="attacker@evil.example")
        after = databases(superuser)
        assert before <= after, f"{name}: a database is gone"
        if response.status_code == 201:
            made = Organization.objects.get(pk=response.json()["id"])
            assert after - before == {made.database_name}, f"{name} has no database of its own"
            assert [email for _, email, _ in people(made)] == ["attacker@evil.example"], name
            login = server.log_in(name, email="attacker@evil.example")
            assert login.status_code == 200, login.text
        else:
            assert_one_shape(response, 400, 409)
            assert after == before, f"{name} was refused and has made a database"
            refused.append(name)
        assert people(alpha.organization) == victims, f"{name} has changed the victim's data"
        login = server.log_in(alpha.name, email="attacker@evil.example")
        assert login.status_code == 401, f"{name} opens the victim's organization"
    assert server.log_in(alpha.name, email=alpha.email).status_code == 200
    assert 1 <= len(refused) < len(NAMES) / 2, refused


def test_spellings_that_a_person_would_confuse_are_one_organization(
    server: WebServer, alpha: Company
) -> None:
    for name in ("Acme Corp", "acme-corp", "ACME_CORP", " acme  corp "):
        assert assert_one_shape(server.sign_up(name), 409)["code"] == "organization_exists", name
        found = server.post("/org/get", {"organization_name": name})
        assert (found.status_code, found.json()["id"]) == (200, alpha.organization.pk), name
        assert server.log_in(name, email=alpha.email).status_code == 200, name


def test_two_names_of_255_characters_that_differ_at_the_end_are_two(server: WebServer) -> None:
    first, second = ("x" * 254 + end for end in "ab")
    made = [server.sign_up(name, email=f"admin@{name[-1]}.com") for name in (first, second)]
    assert [response.status_code for response in made] == [201, 201]
    rows = [Organization.objects.get(pk=response.json()["id"]) for response in made]
    assert rows[0].database_name != rows[1].database_name
    assert all(len(row.database_name.encode()) <= 63 for row in rows)
    assert server.log_in(first, email="admin@a.com").status_code == 200
    assert_one_shape(server.log_in(second, email="admin@a.com"), 401)
