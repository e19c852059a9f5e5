"""Django admin's login page has the rate limits of every login."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from accounts import limits
from organizations.models import Staff
from tests.accounts.test_login_limits import count_failures, pass_time
from tests.conftest import PASSWORD

PAGE = "/admin/login/"


@pytest.fixture
def staff() -> Iterator[Staff]:
    made = Staff.objects.create_superuser(f"staff-{secrets.token_hex(4)}", None, PASSWORD)
    yield made
    made.delete()


def after(failures: int, username: str) -> None:
    """Fail so many attempts; the last delay has just ended."""
    key = limits._key("FAILURES", "staff", username)
    count_failures(key, failures)


def log_in(username: str, password: str = "wrong", address: str = "192.0.2.1") -> Any:
    body = {"username": username, "password": password, "next": "/admin/"}
    return Client(REMOTE_ADDR=address).post(PAGE, body)


def test_failures_are_followed_by_a_delay_and_the_page_says_so(
    staff: Staff, throttles: Settings
) -> None:
    after(30, staff.username)
    assert log_in(staff.username).status_code == 200, "Django's own answer to a wrong password"
    page = log_in(staff.username.upper(), PASSWORD)
    assert page.status_code == 429
    words = f"Too many failed logins. Try again in {page['Retry-After']} seconds."
    assert words in page.content.decode()
    pass_time(900)
    assert log_in(staff.username, PASSWORD).status_code == 302
    assert log_in(staff.username).status_code == 200


def test_an_unknown_name_is_delayed_alike(throttles: Settings) -> None:
    after(30, "nobody")
    assert [log_in("nobody").status_code for _ in range(2)] == [200, 429]


def test_one_address_has_a_limit(staff: Staff, throttles: Settings) -> None:
    throttles.THROTTLE_LOGIN_ADDRESS = "2/min"
    names = ("one", "two", staff.username)
    assert [log_in(name).status_code for name in names] == [200, 200, 429]
    assert log_in(staff.username, PASSWORD, "192.0.2.2").status_code == 302


def test_one_name_has_a_limit(staff: Staff, throttles: Settings) -> None:
    throttles.THROTTLE_LOGIN_ACCOUNT = "2/min"
    answers = [log_in(staff.username, PASSWORD, f"192.0.2.{n}").status_code for n in range(3)]
    assert answers == [302, 302, 429]


def test_the_page_itself_can_always_be_looked_at(throttles: Settings) -> None:
    throttles.THROTTLE_LOGIN_ADDRESS = "1/min"
    assert {Client().get(PAGE).status_code for _ in range(4)} == {200}
