"""A limit on how often one person asks."""

import re
from collections.abc import Callable

import pytest
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from organizations import tenancy
from organizations.models import ThrottleCounter
from tests.conftest import Company

from .helpers import client_of, json_of, send

ME = "/api/v1/me/"


@pytest.fixture
def two_a_day(throttles: Settings) -> None:
    throttles.THROTTLE_MEMBER = "2/day"


@pytest.mark.usefixtures("throttles")
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


def test_the_people_of_an_organization_share_its_limit(
    alpha: Company, beta: Company, person: Callable[..., User], throttles: Settings
) -> None:
    throttles.THROTTLE_ORGANIZATION = "3/day"
    first, second = client_of(alpha, person()), client_of(alpha, person())
    answers = [client.get(ME).status_code for client in (first, second, first, second)]
    assert answers == [200, 200, 200, 429]
    with tenancy.override(beta.tenant):
        user = User.objects.get(email=beta.email)
    assert client_of(beta, user).get(ME).status_code == 200


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("THROTTLE_SIGNUP", "/org/create"),
        ("THROTTLE_LOOKUP", "/org/get"),
        ("THROTTLE_REFRESH", "/api/v1/auth/token/refresh/"),
    ],
)
def test_an_endpoint_for_strangers_has_a_limit_by_address(
    throttles: Settings, setting: str, path: str
) -> None:
    setattr(throttles, setting, "2/hour")

    def ask(address: str) -> HttpResponse:
        return send(Client(REMOTE_ADDR=address), "post", path, {})

    assert [ask("192.0.2.1").status_code for _ in range(3)] == [400, 400, 429]
    assert ask("192.0.2.2").status_code == 400
    refused = ask("192.0.2.1")
    seconds = int(refused["Retry-After"])
    assert 0 < seconds <= 3600
    assert json_of(refused, 429) == {
        "detail": f"Too many requests. Try again in {seconds} seconds.",
        "code": "throttled",
    }


def test_with_throttles_off_nothing_is_counted(throttles: Settings) -> None:
    throttles.THROTTLES = False
    throttles.THROTTLE_LOOKUP = "1/hour"
    answers = {send(Client(), "post", "/org/get", {}).status_code for _ in range(5)}
    assert answers == {400}
    assert not ThrottleCounter.objects.exists()


def test_what_is_stored_names_nobody(alpha: Company, throttles: Settings) -> None:
    alpha.login(Client(REMOTE_ADDR="192.0.2.7"))
    keys = list(ThrottleCounter.objects.values_list("key", flat=True))
    assert len(keys) == 3, "address, account, organization; a success forgets the failures"
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)
