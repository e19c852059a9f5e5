"""Statements that are running when their organization's route changes, or its connection ends."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.db import connections
from django.http import HttpResponse
from django.test import Client

from accounts.api import views
from organizations import lifecycle, tenancy
from organizations.models import Organization
from organizations.postgres.fence import fence
from organizations.provisioning import code, versions
from organizations.recovery import credentials
from tests.conftest import Company

from .helpers import AWAY, ME, change_unheard, code_of, row_of

Act = Callable[[Company, int], object]


def take_back(company: Company, socket_number: int) -> None:
    names = tuple(sorted(versions.code_migrations()))[:-1]
    versions.remember(code.fingerprint_of(names), names)
    change_unheard(company, fingerprint=code.fingerprint_of(names))
    fence(row_of(company))


def suspend_and_cut(company: Company, socket_number: int) -> None:
    """The network fails, so nobody is told by the server (57P01)."""
    change_unheard(company, status=Organization.Status.SUSPENDED)
    with socket.socket(fileno=os.dup(socket_number)) as theirs:
        theirs.shutdown(socket.SHUT_RDWR)
    time.sleep(0.2)
    fence(row_of(company))


# Each act, and what the client of a running query is told.
ACTS: dict[str, tuple[Act, tuple[int, str]]] = {
    "suspended": (
        lambda company, _: lifecycle.suspend_organization(row_of(company)),
        (403, "organization_suspended"),
    ),
    "suspended, and the connection is lost": (suspend_and_cut, (403, "organization_suspended")),
    "migrated back": (take_back, (503, "organization_migrating")),
    "deleted": (
        lambda company, _: lifecycle.delete_organization(row_of(company)),
        (404, "organization_not_found"),
    ),
    "given a new password": (lambda company, _: credentials.reset(row_of(company)), AWAY),
}


@contextmanager
def asleep(served: Company, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, int]]:
    """The answer to come of a request whose query runs, and its connection's socket."""
    sleeps = threading.Event()
    sockets: list[int] = []

    def sleep(*args: Any, **options: Any) -> HttpResponse:
        with tenancy.connection().cursor() as cursor:
            sockets.append(cursor.connection.fileno())
            sleeps.set()
            cursor.execute("SELECT pg_sleep(20)")
        return HttpResponse("slept")

    def ask() -> Any:
        try:
            asking = Client(HTTP_AUTHORIZATION=f"Bearer {served.token(Client())}")
            return asking.get(ME)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as threads:
        with monkeypatch.context() as patch:
            patch.setattr(views.MeView, "get", sleep)
            answer: Future[Any] = threads.submit(ask)
            assert sleeps.wait(10)
        time.sleep(0.2)
        yield answer, sockets[0]


@pytest.mark.parametrize("act", ACTS)
def test_a_running_query_is_ended_and_its_client_told_why(
    act: str, served: Company, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, told = ACTS[act]
    with asleep(served, monkeypatch) as (answer, socket_number):
        began = time.monotonic()
        change(served, socket_number)
        assert code_of(answer.result(10)) == told
        assert time.monotonic() - began < 10, "the query ran to its end"
    if act == "given a new password":
        assert client.get(ME).status_code == 200, "the next request has the new one"
    if act == "deleted":
        assert code_of(client.get(ME)) == (401, "invalid_token"), "the login went with it"


# Once for each time that the server has got the statement: a sequence is not rolled back.
ENDS_IN_ITS_COMMIT = """
CREATE TABLE written (id bigint GENERATED ALWAYS AS IDENTITY);
CREATE SEQUENCE sent;
CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('sent'), pg_terminate_backend(pg_backend_pid());
    PERFORM pg_sleep(10);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON written DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION end_session()
"""


@pytest.mark.parametrize("is_atomic", [False, True])
def test_a_statement_whose_outcome_is_unknown_is_never_sent_twice(
    is_atomic: bool, served: Company, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenancy.override(served.tenant), tenancy.connection().cursor() as cursor:
        cursor.execute(ENDS_IN_ITS_COMMIT)
    calls: list[bool] = []

    def write(*args: Any, **options: Any) -> HttpResponse:
        calls.append(is_atomic)
        with ExitStack() as scope:
            if is_atomic:
                scope.enter_context(tenancy.atomic())
            scope.enter_context(tenancy.connection().cursor()).execute(
                "INSERT INTO written DEFAULT VALUES"
            )
        return HttpResponse("written")

    with monkeypatch.context() as patch:
        patch.setattr(views.MeView, "get", write)
        assert code_of(client.get(ME)) == AWAY
    assert calls == [is_atomic]
    assert client.get(ME).status_code == 200
    with tenancy.override(served.tenant), tenancy.connection().cursor() as cursor:
        cursor.execute("SELECT last_value, is_called, (SELECT count(*) FROM written) FROM sent")
        assert cursor.fetchone() == (1, True, 0)
