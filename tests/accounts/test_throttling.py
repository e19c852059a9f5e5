"""A limit on how often one person asks."""

from collections.abc import Callable, Iterator

import pytest
from django.core.cache import cache
from django.test import Client

from accounts.models import User
from accounts.throttling import MemberRateThrottle
from organizations import tenancy
from tests.conftest import Company

from .helpers import client_of

ME = "/api/v1/me/"


@pytest.fixture
def two_a_day(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(MemberRateThrottle, "rate", "2/day", raising=False)
    cache.clear()
    yield
    cache.clear()


def test_nobody_is_limited_where_no_rate_is_set(alpha: Company, member: User) -> None:
    client = client_of(alpha, member)
    assert {client.get(ME).status_code for _ in range(30)} == {200}


@pytest.mark.usefixtures("two_a_day")
def test_who_asks_too_often_is_told_when_to_come_again(alpha: Company, member: User) -> None:
    client = client_of(alpha, member)
    assert [client.get(ME).status_code for _ in range(2)] == [200, 200]
    response = client.get(ME)
    assert response.status_code == 429, response.content
    assert response.json()["code"] == "throttled"
    assert 0 < int(response["Retry-After"]) <= 86400


@pytest.mark.usefixtures("two_a_day")
def test_a_new_login_of_the_same_person_is_limited_with_the_others(
    alpha: Company, member: User
) -> None:
    answers = [client_of(alpha, member).get(ME).status_code for _ in range(3)]
    assert answers == [200, 200, 429]


@pytest.mark.usefixtures("two_a_day")
def test_a_limit_is_for_one_person(alpha: Company, person: Callable[..., User]) -> None:
    first, second = client_of(alpha, person()), client_of(alpha, person())
    assert [first.get(ME).status_code for _ in range(3)] == [200, 200, 429]
    assert second.get(ME).status_code == 200


@pytest.mark.usefixtures("two_a_day")
def test_people_of_two_organizations_with_one_key_are_two_people(
    alpha: Company, beta: Company
) -> None:
    clients = []
    for made in (alpha, beta):
        with tenancy.override(made.tenant):
            user = User.objects.get(email=made.email)
        assert user.pk == 1, "the first admin's key repeats across organizations"
        clients.append(client_of(made, user))
    assert [clients[0].get(ME).status_code for _ in range(3)] == [200, 200, 429]
    assert clients[1].get(ME).status_code == 200


@pytest.mark.usefixtures("two_a_day")
def test_staff_and_strangers_have_no_limit_of_a_member(staff_client: Client) -> None:
    for _ in range(4):
        assert staff_client.get("/api/v1/organizations/").status_code == 200
        assert Client().get("/api/v1/").status_code == 200
