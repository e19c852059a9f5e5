"""Many sign-ups for one name at the same moment."""

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


def sign_up_at_once(server: WebServer, names: list[str]) -> list[requests.Response]:
    """One sign-up for each name, all sent together, each with a password of its own."""
    start = threading.Barrier(len(names))

    def sign_up(number: int) -> requests.Response:
        start.wait()
        return server.sign_up(names[number], password=password(number))

    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(sign_up, range(len(names))))


def assert_one_winner(
    server: WebServer,
    responses: list[requests.Response],
    superuser: psycopg.Connection[tuple[object, ...]],
) -> None:
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [201] + [409] * 19
    for response in responses:
        if response.status_code == 409:
            assert assert_one_shape(response, 409)["code"] == "organization_exists"
    winner = next(n for n, response in enumerate(responses) if response.status_code == 201)
    assert server.log_in("race corp", password=password(winner)).status_code == 200
    losers = [number for number in range(20) if number != winner]
    for number in losers:
        assert_one_shape(server.log_in("race corp", password=password(number)), 401)
    assert Organization.objects.live().named("race corp").count() == 1
    assert leftovers(superuser) == (set(), set()), "a loser has left a database or a role behind"


def test_of_twenty_identical_sign_ups_one_wins_and_nineteen_are_told_so(
    server: WebServer, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    responses = sign_up_at_once(server, ["Race Corp"] * 20)
    assert_one_winner(server, responses, superuser)


def test_of_twenty_spellings_of_one_name_one_wins_and_nineteen_are_told_so(
    server: WebServer, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    assert len(set(SPELLINGS)) == 20
    responses = sign_up_at_once(server, SPELLINGS)
    assert_one_winner(server, responses, superuser)


def test_the_lock_of_a_name_is_free_the_moment_its_session_has_ended() -> None:
    """Or a sign-up right behind a deletion, or a second try behind a failed one, meets a 409."""
    with open_session() as other:
        for attempt in range(50):
            with open_session() as session:
                assert session.try_lock("race-corp")
            assert other.try_lock("race-corp"), f"it was still held, at attempt {attempt}"
            other.value("SELECT pg_advisory_unlock_all()")
