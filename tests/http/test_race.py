"""Many sign-ups for the same name at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import requests

from organizations.models import Organization
from organizations.postgres.sessions import open_session
from tests.conftest import leftovers

from .server import WebServer, assert_one_shape

SPELLINGS = [
    "Race Corp",
    "race corp",
    "RACE CORP",
    "race-corp",
    "race_corp",
    "Race-Corp",
    "RACE_CORP",
    "Race  Corp",
    " Race Corp",
    "Race Corp ",
    "race - corp",
    "race__corp",
    "race--corp",
    "-race corp-",
    "Race\tCorp",
    "Race\u00a0Corp",
    "\uff32\uff21\uff23\uff25 Corp",
    "race\u2013corp",
    "race\u200b corp",
    "\u24c7\u24d0\u24d2\u24d4 corp",
]


def password(number: int) -> str:
    return f"the passphrase of number {number}"


def test_one_of_twenty_sign_ups_for_spellings_of_a_name_succeeds(
    server: WebServer, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    assert len(set(SPELLINGS)) == 20
    start = threading.Barrier(20)

    def sign_up(number: int) -> requests.Response:
        start.wait()
        return server.sign_up(SPELLINGS[number], password=password(number))

    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(sign_up, range(20)))
    assert sorted(response.status_code for response in responses) == [201] + [409] * 19
    for number, response in enumerate(responses):
        login = server.log_in("race corp", password=password(number))
        if response.status_code == 201:
            assert login.status_code == 200, "the winner cannot log in"
        else:
            assert assert_one_shape(response, 409)["code"] == "organization_exists"
            assert_one_shape(login, 401)
    assert Organization.objects.live().named("race corp").count() == 1
    assert leftovers(superuser) == (set(), set()), "a loser has left a database or a role"


def test_the_lock_of_a_name_is_free_as_soon_as_its_session_has_ended() -> None:
    """Or a sign-up right after a deletion, or a second try right after the first, is a 409."""
    with open_session() as other:
        for attempt in range(20):
            with open_session() as session:
                assert session.try_lock("race-corp")
            assert other.try_lock("race-corp"), f"it was still held, at attempt {attempt}"
            other.value("SELECT pg_advisory_unlock_all()")
