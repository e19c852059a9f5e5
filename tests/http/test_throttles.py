"""Two processes share one limit."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from organizations.models import ThrottleCounter
from tests.conftest import Company

from .server import WebServer, assert_no_traceback, assert_one_shape, serving


@pytest.fixture(scope="module")
def throttled(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    """gunicorn with two workers and limits that are soon reached."""
    log = tmp_path_factory.mktemp("gunicorn") / "throttled.log"
    limits = {
        "THROTTLE_LOOKUP": "10/hour",
        "THROTTLE_LOGIN_ACCOUNT": "7/hour",
        "LOGIN_FREE_FAILURES": "100",
    }
    with serving(log, WEB_CONCURRENCY="2", THROTTLES="on", **limits) as running:
        yield running
    assert_no_traceback(running)


@pytest.fixture(autouse=True)
def _uncounted() -> Iterator[None]:
    ThrottleCounter.objects.all().delete()
    yield
    ThrottleCounter.objects.all().delete()


def test_twenty_clients_of_two_processes_get_one_limit_exactly(throttled: WebServer) -> None:
    def ask(_: int) -> int:
        return throttled.post("/org/get", {"organization_name": "Nobody Ltd"}).status_code

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(60)))
    assert answers.count(404) == 10
    assert answers.count(429) == 50


def test_twenty_log_ins_over_two_processes_get_one_limit_exactly(
    throttled: WebServer, alpha: Company
) -> None:
    def ask(_: int) -> int:
        body = {"organization": alpha.name, "email": alpha.email, "password": "wrong password"}
        return throttled.post("/api/v1/auth/token/", body).status_code

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert answers.count(401) == 7
    assert answers.count(429) == 13


def test_an_answer_says_in_whole_seconds_when_to_come_again(throttled: WebServer) -> None:
    for _ in range(11):
        response = throttled.post("/org/get", {"organization_name": "Nobody Ltd"})
    error = assert_one_shape(response, 429)
    seconds = int(response.headers["Retry-After"])
    assert 0 < seconds <= 3600
    assert error["detail"] == f"Too many requests. Try again in {seconds} seconds."


def test_the_schema_declares_the_limits(throttled: WebServer) -> None:
    paths = throttled.get("/openapi.json").json()["paths"]
    for path in ("/org/create", "/org/get", "/admin/login", "/api/v1/auth/token/"):
        assert "Retry-After" in paths[path]["post"]["responses"]["429"]["headers"]
    assert "429" not in paths["/health"]["get"]["responses"]
