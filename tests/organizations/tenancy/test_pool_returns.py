"""Returning connections to the pool: from threads without a block, in races, and reset to new."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import connections
from psycopg import sql
from pytest_django import Settings

from accounts.models import User
from organizations import tenancy
from organizations.tenancy import OrganizationCrowded, pool
from tests.conftest import Company, Superuser
from tests.organizations.helpers import as_role_of

from .conftest import lent, send_away, visit

pytestmark = pytest.mark.usefixtures("fresh_registry", "fresh_pool")


# --- Threads without a block ----------------------------------------------------------------------
def count() -> int:
    return User.objects.count()


def count_by_hand() -> int:
    cursor = tenancy.connection().cursor()
    cursor.execute("SELECT count(*) FROM users")
    return int(cursor.fetchone()[0])


def count_in_transaction() -> int:
    done: list[int] = []
    with tenancy.atomic():
        User.objects.select_for_update().get()
        tenancy.on_commit(lambda: done.append(count()))
        assert lent() > 0, "the transaction has lost its connection"
    return done[0]


def count_by_iterating() -> int:
    return sum(1 for _ in User.objects.iterator(chunk_size=1))


def test_threads_of_async_code_keep_no_connection(
    alpha: Company, beta: Company, settings: Settings
) -> None:
    settings.ORG_MAX_CONNECTIONS, settings.ORG_CONNECTION_WAIT_SECONDS = 2, 10
    together = threading.Barrier(4)

    def run(ask: Callable[[], int]) -> int:
        together.wait(30)  # Each in a thread of its own.
        found = ask()
        connections["default"].close()
        return found

    async def gather(ask: Callable[[], int]) -> list[int]:
        asyncio.get_running_loop().set_default_executor(threads)
        with tenancy.override(alpha.tenant):
            return await asyncio.gather(*(asyncio.to_thread(run, ask) for _ in range(4)))

    for ask in (count, count_by_hand, count_in_transaction, count_by_iterating):
        with ThreadPoolExecutor(4) as threads:
            assert asyncio.run(gather(ask)) == [1] * 4, ask
            assert lent() == 0, f"the threads go on holding them: {ask}"
            visit(alpha, beta)


# --- Races ----------------------------------------------------------------------------------------
def test_what_comes_back_while_the_time_runs_out_is_had(
    several: list[Company], settings: Settings
) -> None:
    """The lock's holder leaves the counting to whoever comes next."""
    settings.ORG_MAX_CONNECTIONS, settings.ORG_CONNECTION_WAIT_SECONDS = 1, 0.5
    waits = pool.shared.waits
    with ThreadPoolExecutor(1) as threads:
        block = tenancy.override(several[0].tenant)
        block.__enter__()
        User.objects.get()
        waiting = threads.submit(closing_master, partial(visit, several[1]))
        while pool.shared.waits == waits:
            time.sleep(0.005)
        with pool.shared._lock:
            block.__exit__(None, None, None)
        waiting.result(timeout=30)


def closing_master(act: Callable[[], Any]) -> None:
    try:
        act()
    finally:
        connections["default"].close()


@pytest.mark.parametrize("limit", ["ORG_MAX_CONNECTIONS", "ORG_MAX_THREADS"])
def test_an_interrupted_wait_holds_nothing(
    alpha: Company, limit: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    setattr(settings, limit, 1)
    monkeypatch.setattr("organizations.tenancy.guard._serves_requests", True)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with tenancy.override(alpha.tenant):
            User.objects.get()
            inside.set()
            assert leave.wait(30)

    with ThreadPoolExecutor(1) as threads:
        holding = threads.submit(closing_master, hold)
        assert inside.wait(30)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            visit(alpha)
        leave.set()
        holding.result(timeout=30)
    settings.ORG_CONNECTION_WAIT_SECONDS = 0.05
    visit(alpha)


def test_an_idle_connection_is_closed_in_time_without_a_further_request(
    alpha: Company,
    settings: Settings,
    sessions: Callable[[Company, int], None],
    superuser: Superuser,
) -> None:
    send_away(superuser, alpha)
    visit(alpha)
    settings.ORG_CONNECTION_IDLE_SECONDS = 0.1
    sessions(alpha, 0)


# --- As new ---------------------------------------------------------------------------------------
def test_what_a_block_sets_ends_with_it(alpha: Company, superuser: Superuser) -> None:
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        before = settings_of(cursor)
        for statement in (
            "SET statement_timeout = 0",
            "SET search_path = pg_catalog",
            "SET TimeZone = 'Asia/Tokyo'",
            "CREATE TEMPORARY TABLE pg_temp.users ()",
            "PREPARE left_over AS SELECT 1",
            "SET default_transaction_read_only = on",
            "SELECT pg_advisory_lock(4711)",
        ):
            cursor.execute(statement)
        assert settings_of(cursor) != before
    deadline = time.monotonic() + 10
    while superuser.execute("SELECT FROM pg_locks WHERE objid = 4711").fetchone():
        assert time.monotonic() < deadline, "the idle session holds the block's lock"
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        assert settings_of(cursor) == before
        assert User.objects.get().email == alpha.email
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        assert cursor.fetchone() == (0,)
    assert pool.shared.open == 1, "it was another session"


def settings_of(cursor: Any) -> list[tuple[str]]:
    cursor.execute(
        "SELECT pg_backend_pid(), current_setting('statement_timeout'), "
        "current_setting('search_path'), current_setting('TimeZone'), "
        "current_setting('default_transaction_read_only')"
    )
    return list(cursor.fetchall())


def test_how_a_block_had_its_transactions_begin_ends_with_it(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        User.objects.get()
        tenancy.connection().connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    with (
        tenancy.override(alpha.tenant),
        tenancy.atomic(),
        tenancy.connection().cursor() as cursor,
    ):
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("read committed",)


def test_a_roles_own_time_zone_is_ignored(alpha: Company) -> None:
    role = sql.Identifier(alpha.organization.role_name)
    with as_role_of(alpha.organization) as own:
        own.execute(sql.SQL("ALTER ROLE {} SET TimeZone = 'Asia/Tokyo'").format(role))
    try:
        for _ in range(2):
            with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
                cursor.execute("SHOW TimeZone")
                assert cursor.fetchone() == ("UTC",)
    finally:
        with as_role_of(alpha.organization) as own:
            own.execute(sql.SQL("ALTER ROLE {} RESET TimeZone").format(role))


# --- The server's limits, and the role's ----------------------------------------------------------
def test_a_role_at_its_connection_limit_takes_no_connection_of_another(
    alpha: Company, beta: Company, superuser: Superuser
) -> None:
    role = sql.Identifier(alpha.organization.role_name)
    send_away(superuser, alpha)
    visit(beta)
    superuser.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 1").format(role))
    try:
        with as_role_of(alpha.organization), pytest.raises(OrganizationCrowded):
            visit(alpha)
    finally:
        superuser.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 100").format(role))
    assert pool.shared.idle == 1, "another's connection was closed for it"


def test_a_database_at_its_connection_limit_limits_its_organization_only(
    alpha: Company, beta: Company
) -> None:
    database = sql.Identifier(alpha.organization.database_name)
    visit(beta)
    with as_role_of(alpha.organization) as own:
        own.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0").format(database))
        try:
            with pytest.raises(OrganizationCrowded):
                visit(alpha)
        finally:
            own.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(database))
    assert pool.shared.idle == 1, "another's connection was closed for it"


def test_on_a_full_server_an_idle_connection_is_closed_to_make_room(
    alpha: Company, beta: Company, superuser: Superuser
) -> None:
    visit(beta)
    connections["default"].ensure_connection()
    role = sql.Identifier(beta.organization.role_name)
    superuser.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT -1").format(role))
    evictions = pool.shared.evictions
    try:
        with ExitStack() as taken:
            with pytest.raises(psycopg.OperationalError):
                while True:
                    taken.enter_context(as_role_of(beta.organization))
            visit(alpha)
    finally:
        superuser.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 100").format(role))
    assert pool.shared.evictions == evictions + 1
