"""Rate limits by user, organization and address."""

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
def test_without_a_rate_there_is_no_limit(alpha: Company, member: User) -> None:
    client = client_of(alpha, member)
    assert {client.get(ME).status_code for _ in range(5)} == {200}


@pytest.mark.usefixtures("two_a_day")
def test_a_limit_counts_one_user_over_all_their_logins(
    alpha: Company, person: Callable[..., User]
) -> None:
    user, other = person(), person()
    answers = [client_of(alpha, user).get(ME) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert json_of(answers[2], 429)["code"] == "throttled"
    assert 0 < int(answers[2]["Retry-After"]) <= 86400
    assert client_of(alpha, other).get(ME).status_code == 200


@pytest.mark.usefixtures("two_a_day")
def test_users_of_two_organizations_with_one_id_are_counted_apart(
    alpha: Company, beta: Company
) -> None:
    clients = []
    for made in (alpha, beta):
        with tenancy.override(made.tenant):
            user = User.objects.get(email=made.email)
        assert user.pk == 1, "the first admin's id is the same in every organization"
        clients.append(client_of(made, user))
    assert [clients[0].get(ME).status_code for _ in range(3)] == [200, 200, 429]
    assert clients[1].get(ME).status_code == 200


@pytest.mark.usefixtures("two_a_day")
def test_the_members_limit_does_not_apply_to_staff_and_strangers(staff_client: Client) -> None:
    for _ in range(4):
        assert staff_client.get("/api/v1/organizations/").status_code == 200
        assert Client().get("/api/v1/").status_code == 200


def test_the_users_of_an_organization_share_its_limit(
    alpha: Company, beta: Company, person: Callable[..., User], throttles: Settings
) -> None:
    throttles.THROTTLE_ORGANIZATION = "3/day"
    first, second = client_of(alpha, person()), client_of(alpha, person())
    answers = [client.get(ME).status_code for client in (first, second, first, second)]
    assert answers == [200, 200, 200, 429]
    with tenancy.override(beta.tenant):
        user = User.objects.get(email=beta.email)
    assert client_of(beta, user).get(ME).status_code == 200


def test_endpoints_for_strangers_have_a_limit_by_address(throttles: Settings) -> None:
    def ask(path: str, address: str) -> HttpResponse:
        return send(Client(REMOTE_ADDR=address), "post", path, {})

    for setting, path in (
        ("THROTTLE_SIGNUP", "/org/create"),
        ("THROTTLE_LOOKUP", "/org/get"),
        ("THROTTLE_REFRESH", "/api/v1/auth/token/refresh/"),
    ):
        setattr(throttles, setting, "2/hour")
        statuses = [ask(path, "192.0.2.1").status_code for _ in range(3)]
        assert statuses == [400, 400, 429], path
        assert ask(path, "192.0.2.2").status_code == 400, path
        refused = ask(path, "192.0.2.1")
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
