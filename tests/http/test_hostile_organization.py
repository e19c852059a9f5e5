"""A hostile organization on a server with four threads: the others notice nothing."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest

from tests.conftest import Company
from tests.organizations.helpers import as_role_of
from tests.organizations.tenancy.hostile import replaced

from .server import WebServer

REQUESTS = 25


def token(server: WebServer, company: Company) -> dict[str, str]:
    answer = server.log_in(company.name, email=company.email).json()
    return {"Authorization": f"Bearer {answer['access_token']}"}


def test_a_trap_for_a_users_table_is_a_503_for_its_organization_only(
    hurried: WebServer, alpha: Company, beta: Company
) -> None:
    theirs, ours = token(hurried, alpha), token(hurried, beta)
    done = threading.Event()
    answered: set[tuple[int, str]] = set()

    def attack() -> None:
        while not done.is_set():
            answer = hurried.get("/api/v1/me/", headers=theirs)
            answered.add((answer.status_code, answer.json().get("code", "")))

    trap = "SELECT * FROM kept WHERE forever()"
    with replaced(alpha, "users", trap), ThreadPoolExecutor(6) as threads:
        attacks = [threads.submit(attack) for _ in range(6)]
        try:
            while not answered:
                time.sleep(0.01)
            for _ in range(REQUESTS):
                assert hurried.get("/api/v1/me/", headers=ours).status_code == 200
                assert hurried.get("/health").status_code == 200
        finally:
            done.set()
        for each in attacks:
            each.result()
    assert answered == {(503, "took_too_long"), (503, "too_busy")}
    assert hurried.get("/api/v1/me/", headers=theirs).status_code == 200


def test_a_role_that_takes_all_its_connections_takes_none_of_others(
    hurried: WebServer, company: Callable[..., Company], beta: Company
) -> None:
    hostile = company()
    theirs, ours = token(hurried, hostile), token(hurried, beta)
    with ExitStack() as taken:
        with pytest.raises(psycopg.OperationalError):
            while True:
                taken.enter_context(as_role_of(hostile.organization))
        # What the process has open is its own; the next that it needs is refused.
        for _ in range(REQUESTS):
            assert hurried.get("/api/v1/me/", headers=ours).status_code == 200
    assert hurried.get("/api/v1/me/", headers=theirs).status_code == 200
