"""gunicorn, one of whose organizations is hostile: the others notice nothing."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest

from tests.conftest import Company
from tests.organizations.helpers import as_role_of
from tests.organizations.tenancy.hostile import replaced

from .server import WebServer, serving

REQUESTS = 25


@pytest.fixture(scope="module")
def small(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """One process of four threads, whose statements may take 1 s."""
    log = tmp_path_factory.mktemp("gunicorn") / "hostile.log"
    changes = {"WEB_CONCURRENCY": "1", "STATEMENT_TIMEOUT_SECONDS": "1"}
    with serving(log, **changes) as running:
        yield running
    assert "Internal Server Error" not in running.text()


def token(server: WebServer, company: Company) -> dict[str, str]:
    answer = server.log_in(company.name, email=company.email).json()
    return {"Authorization": f"Bearer {answer['access_token']}"}


def test_a_table_of_users_that_is_a_trap_is_503_for_its_own_alone(
    small: WebServer, alpha: Company, beta: Company
) -> None:
    theirs, ours = token(small, alpha), token(small, beta)
    done = threading.Event()
    answered: set[tuple[int, str]] = set()

    def attack() -> None:
        while not done.is_set():
            answer = small.get("/api/v1/me/", headers=theirs)
            answered.add((answer.status_code, answer.json().get("code", "")))

    trap = "SELECT * FROM kept WHERE forever()"
    with replaced(alpha, "users", trap), ThreadPoolExecutor(6) as threads:
        attacks = [threads.submit(attack) for _ in range(6)]
        try:
            while not answered:
                time.sleep(0.01)
            for _ in range(REQUESTS):
                assert small.get("/api/v1/me/", headers=ours).status_code == 200
                assert small.get("/health").status_code == 200
        finally:
            done.set()
        for each in attacks:
            each.result()
    assert answered == {(503, "took_too_long"), (503, "too_busy")}
    assert small.get("/api/v1/me/", headers=theirs).status_code == 200


def test_a_role_that_takes_all_it_may_have_leaves_the_others_theirs(
    small: WebServer, company: object, beta: Company
) -> None:
    hostile: Company = company()  # type: ignore[operator]
    theirs, ours = token(small, hostile), token(small, beta)
    with ExitStack() as taken:
        with pytest.raises(psycopg.OperationalError):
            while True:
                taken.enter_context(as_role_of(hostile.organization))
        # What the process has open is its own; the next that it needs is refused.
        for _ in range(REQUESTS):
            assert small.get("/api/v1/me/", headers=ours).status_code == 200
    assert small.get("/api/v1/me/", headers=theirs).status_code == 200
