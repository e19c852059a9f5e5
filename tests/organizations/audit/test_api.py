"""GET /api/v1/audit/: an organization's admins read their own audit trail, and nobody else's."""

from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import services as people
from accounts.models import User
from organizations import tenancy
from organizations.models import AuditEntry
from organizations.tenancy import trail
from organizations.tenancy.trail import Origin
from tests.accounts.helpers import bearer, client_of, json_of, unique_email
from tests.conftest import PASSWORD, Company

PATH = "/api/v1/audit/"


@pytest.fixture
def admin(alpha: Company) -> Client:
    return bearer(alpha.token(Client()))


@pytest.fixture
def member(alpha: Company) -> Iterator[User]:
    with tenancy.override(alpha.tenant):
        user = people.create_user(email=unique_email(), password=PASSWORD)
    yield user
    with tenancy.override(alpha.tenant):
        user.delete()


def listed(client: Client, **query: str | int) -> list[Any]:
    results: list[Any] = json_of(client.get(PATH, query))["results"]
    return results


def record(company: Company, act: str, **values: Any) -> AuditEntry:
    trail.record(act, organization_id=company.organization.pk, **values)
    return AuditEntry.objects.latest("id")


def test_the_newest_entry_comes_first_with_all_that_is_known(admin: Client, alpha: Company) -> None:
    origin = Origin("user", 7, "203.0.113.9", "one-request")
    with trail.acting(origin):
        entry = record(alpha, "user.updated", user_id=8, facts={"fields": ["email"]})
    first, *others = listed(admin)
    assert first == {
        "id": entry.pk,
        "at": entry.at.isoformat().replace("+00:00", "Z"),
        "act": "user.updated",
        "actor": "user",
        "actor_id": 7,
        "user_id": 8,
        "person": "",
        "address": "203.0.113.9",
        "request_id": "one-request",
        "facts": {"fields": ["email"]},
    }
    assert [each["id"] for each in others] == sorted((e["id"] for e in others), reverse=True)


def test_no_filter_shows_another_organizations_entries(
    admin: Client, alpha: Company, beta: Company
) -> None:
    theirs = record(beta, "user.removed", user_id=9, email="x@y.example")
    nobodys = AuditEntry.objects.create(act="user.removed", actor="system", user_id=9)
    queries: list[dict[str, str | int]] = [
        {},
        {"page_size": 500},
        {"act": "user.removed"},
        {"user_id": 9},
        {"email": "x@y.example"},
        {"organization_id": beta.organization.pk, "organization": beta.organization.pk},
        {"person": theirs.person},
    ]
    for query in queries:
        shown = {each["id"] for each in listed(admin, **query)}
        assert not shown & {theirs.pk, nobodys.pk}, query
        own = AuditEntry.objects.filter(pk__in=shown).values_list("organization_id", flat=True)
        assert set(own) <= {alpha.organization.pk}, query


def test_each_filter_finds_what_it_names_and_nothing_else(admin: Client, alpha: Company) -> None:
    with trail.acting(Origin("staff", 3, None, "filtered")):
        entry = record(alpha, "user.created", user_id=70_001, email="Carol@Filter.example")
    record(alpha, "user.created", user_id=70_002, email="dave@filter.example")
    for query in (
        {"user_id": 70_001},
        {"request_id": "filtered"},
        {"email": " carol@filter.EXAMPLE "},
        {"actor": "staff", "act": "user.created", "request_id": "filtered"},
    ):
        assert [each["id"] for each in listed(admin, **query)] == [entry.pk], query
    assert {each["act"] for each in listed(admin, act="user.created")} == {"user.created"}
    assert listed(admin, email="nobody@filter.example") == []


def test_times_bound_the_list_on_both_sides(admin: Client, alpha: Company) -> None:
    entry = record(alpha, "user.created")
    later = (entry.at + timedelta(microseconds=1)).isoformat()
    assert entry.pk in {e["id"] for e in listed(admin, since=entry.at.isoformat(), until=later)}
    assert entry.pk not in {e["id"] for e in listed(admin, since=later)}
    assert entry.pk not in {e["id"] for e in listed(admin, until=entry.at.isoformat())}
    assert listed(admin, since=(timezone.now() + timedelta(days=1)).isoformat()) == []


def test_an_offset_that_the_database_cannot_read_is_read(admin: Client) -> None:
    assert listed(admin, until="2999-04-28T06:35:01-23:30")
    assert listed(admin, since="2999-04-28T06:35:01+16:30") == []


def test_a_filter_that_makes_no_sense_is_a_400(admin: Client) -> None:
    for query in (
        {"since": "yesterday"},
        {"user_id": "1.5"},
        {"user_id": str(2**63)},
        {"user_id": "9" * 5_000},
        {"actor": "nobody"},
        {"act": "\x00"},
        {"email": "a\x00"},
        {"act": "x" * 51},
        {"until": "0001-13-01"},
        {"until": "0001-01-01T00:00:00+14:00"},
        {"since": "9999-12-31T23:59:59-23:59"},
    ):
        response: Any = admin.get(PATH, query)
        assert (response.status_code, response.json()["code"]) == (400, "invalid"), query
        assert set(response.json()["fields"]) == set(query)


def test_no_entry_is_shown_twice_or_left_out_while_new_ones_come(
    admin: Client, alpha: Company
) -> None:
    entries = [record(alpha, "user.created", user_id=80_000 + each).pk for each in range(7)]
    query: dict[str, str | int] = {"page_size": 3, "act": "user.created"}
    answer = json_of(admin.get(PATH, query))
    shown = [each["id"] for each in answer["results"]]
    while len(shown) < 7:
        record(alpha, "user.created", user_id=80_100)
        answer = json_of(admin.get(answer["next"]))
        shown += [each["id"] for each in answer["results"]]
    assert shown[:7] == sorted(entries, reverse=True)
    assert [each["id"] for each in json_of(admin.get(answer["previous"]))["results"]] == shown[3:6]


def test_a_page_that_no_answer_led_to_is_a_400(admin: Client) -> None:
    """A client that counts pages would otherwise read the first one again and again."""
    pages = ("p=x", f"p={2**63}", "p=-1", "p=1.5", "o=x", f"r={'9' * 5_000}", "p=%00")
    queries: list[dict[str, Any]] = [
        {"page": "2"},
        {"page_size": "0"},
        {"page_size": "x"},
        {"page_size": ["3", "4"]},
        {"cursor": "x"},
        {"cursor": ["a", "b"]},
        *({"cursor": b64encode(page.encode()).decode()} for page in pages),
    ]
    for query in queries:
        assert set(json_of(admin.get(PATH, query), 400)["fields"]) == set(query), query


def test_a_member_is_refused(alpha: Company, member: User) -> None:
    response: Any = client_of(alpha, member).get(PATH)
    assert response.status_code == 403
    assert "admins" in response.json()["detail"]


def test_strangers_and_staff_are_refused(staff_client: Client) -> None:
    assert Client().get(PATH).status_code == 401
    assert staff_client.get(PATH).status_code == 403


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_can_be_written(admin: Client, method: str) -> None:
    assert getattr(admin, method)(PATH).status_code == 405
