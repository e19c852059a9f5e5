"""The connection pool: connections are reused, shared by threads, and never above the ceiling."""

import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import Error as DatabaseError
from django.db import connections, transaction
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from organizations import tenancy
from organizations.tenancy import ConnectionsExhausted, guard, pool, registry, shares
from tests.conftest import Company, Superuser
from tests.organizations.helpers import Fork, wait_for

from .conftest import lent, visit

pytestmark = pytest.mark.usefixtures("fresh_registry", "fresh_pool")


def backend(company: Company) -> int:
    """The process id of this block's session."""
    with tenancy.override(company.tenant), tenancy.connection().cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


class Threads(ThreadPoolExecutor):
    """Threads that close their connections to the master at the end."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        def run() -> Any:
            try:
                return function(*args)
            finally:
                connections["default"].close()

        return super().submit(run)


def in_thread(function: Callable[[], Any]) -> Any:
    with Threads(1) as threads:
        return threads.submit(function).result(timeout=60)


def test_the_next_block_has_the_connection_of_the_last(alpha: Company) -> None:
    assert backend(alpha) == backend(alpha)
    assert (pool.shared.open, pool.shared.idle) == (1, 1)


def test_a_wrapper_is_kept_as_long_as_its_connection(
    alpha: Company, beta: Company, settings: Settings
) -> None:
    """Kept for longer, they would take memory for each organization that a process has met."""
    settings.ORG_MAX_CONNECTIONS = 1
    backend(alpha)
    entry = connections.settings[alpha.tenant.alias]
    (kept,) = entry.wrappers
    with tenancy.override(alpha.tenant):
        assert connections[alpha.tenant.alias] is kept
    backend(beta)
    assert entry.wrappers == []
    assert len(connections.settings[beta.tenant.alias].wrappers) == 1


def test_threads_share_what_is_warm(alpha: Company) -> None:
    assert in_thread(lambda: backend(alpha)) == backend(alpha)


def test_no_organization_has_the_connection_of_another(alpha: Company, beta: Company) -> None:
    assert backend(alpha) != backend(beta)
    visit(alpha, beta, alpha, beta)
    assert pool.shared.open == 2


def test_the_idle_connection_used_longest_ago_makes_room(
    several: list[Company], settings: Settings
) -> None:
    settings.ORG_MAX_CONNECTIONS = 2
    first, second = backend(several[0]), backend(several[1])
    assert backend(several[0]) == first
    visit(several[2])
    assert pool.shared.open == 2
    assert backend(several[0]) == first, "the one used last was closed"
    assert backend(several[1]) != second, "the one used longest ago was kept"


def test_a_connection_in_use_is_not_closed_for_another(
    several: list[Company], settings: Settings
) -> None:
    settings.ORG_MAX_CONNECTIONS = 2
    with tenancy.override(several[0].tenant), tenancy.atomic():
        before = backend_here()
        User.objects.select_for_update().get()
        visit(*several[1:])
        assert pool.shared.open == 2
        assert backend_here() == before, "it was taken away in the middle of a transaction"


def backend_here() -> int:
    with tenancy.connection().cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def test_with_all_in_use_a_block_waits_for_the_next_that_is_free(
    several: list[Company], settings: Settings
) -> None:
    settings.ORG_MAX_CONNECTIONS = 1
    waits = pool.shared.waits
    with Threads(1) as threads:
        with tenancy.override(several[0].tenant):
            User.objects.get()
            waiting = threads.submit(visit, several[1])
            wait_until(lambda: pool.shared.waits > waits)
            assert not waiting.done(), "it did not wait"
        waiting.result(timeout=30)
    assert pool.shared.open == 1


def test_a_thread_waiting_for_the_organization_gets_the_connection(
    alpha: Company, settings: Settings
) -> None:
    settings.ORG_MAX_CONNECTIONS = 1
    waits = pool.shared.waits
    with Threads(1) as threads:
        with tenancy.override(alpha.tenant):
            mine = backend_here()
            waiting = threads.submit(backend, alpha)
            wait_until(lambda: pool.shared.waits > waits)
        assert waiting.result(timeout=30) == mine


def test_a_block_waits_a_moment_for_one_that_its_organization_uses(
    alpha: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening another costs more than most blocks. One that lasts is not waited for."""
    monkeypatch.setattr(pool, "_HOPES_SECONDS", 30)
    misses = pool.shared.misses
    with Threads(1) as threads:
        with tenancy.override(alpha.tenant):
            mine = backend_here()
            waiting = threads.submit(backend, alpha)
            wait_until(lambda: bool(pool.shared._hoping))
        assert waiting.result(timeout=20) == mine
        assert (pool.shared.open, pool.shared.misses - misses) == (1, 1)
        monkeypatch.setattr(shares, "_JUST_SECONDS", 0)
        with tenancy.override(alpha.tenant):
            mine = backend_here()
            assert threads.submit(backend, alpha).result(timeout=20) != mine


def test_one_that_does_not_come_back_is_not_waited_for_any_longer(
    alpha: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "_JUST_SECONDS", 30)
    with Threads(1) as threads, tenancy.override(alpha.tenant):
        mine = backend_here()
        assert threads.submit(backend, alpha).result(timeout=20) != mine
    assert not pool.shared._hoping


def test_whoever_waits_for_any_connection_is_served_before_its_own_organization(
    several: list[Company], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy organization would keep its connections from all others."""
    settings.ORG_MAX_CONNECTIONS = 1
    monkeypatch.setattr(pool, "_HOPES_SECONDS", 0.5)
    monkeypatch.setattr(shares, "_JUST_SECONDS", 30)
    waits, served = pool.shared.waits, list[Company]()

    def visited(company: Company) -> None:
        visit(company)
        served.append(company)

    with Threads(2) as threads:
        with tenancy.override(several[0].tenant):
            User.objects.get()
            first = threads.submit(visited, several[1])
            wait_until(lambda: pool.shared.waits > waits)
            second = threads.submit(visited, several[0])
            wait_until(lambda: bool(pool.shared._hoping))
        first.result(timeout=20)
        second.result(timeout=20)
    assert served == [several[1], several[0]]


def test_a_kept_connection_leaves_django_as_a_new_one_does(alpha: Company) -> None:
    def state(leaves: bool) -> dict[str, Any]:
        with tenancy.override(alpha.tenant):
            connection = tenancy.connection()
            connection.ensure_connection()
            found = {key: value for key, value in vars(connection).items() if key in _STATE}
            found["psycopg"] = connection.connection.autocommit
            if leaves:
                connection.set_autocommit(False)
            return found

    assert state(leaves=False) == state(leaves=True) == state(leaves=False)
    assert pool.shared.open == 1


_STATE = {
    *("autocommit", "in_atomic_block", "savepoint_ids", "atomic_blocks", "needs_rollback"),
    *("closed_in_transaction", "errors_occurred", "run_on_commit", "isolation_level"),
    *("commit_on_exit", "rollback_exc", "run_commit_hooks_on_set_autocommit_on", "close_at"),
}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.005)


def test_waiting_too_long_ends_with_try_again(several: list[Company], settings: Settings) -> None:
    settings.ORG_MAX_CONNECTIONS, settings.ORG_CONNECTION_WAIT_SECONDS = 1, 0.05
    with tenancy.override(several[0].tenant):
        User.objects.get()
        with pytest.raises(
            ConnectionsExhausted, match=r"All 1 connections of this process .* are in use"
        ):
            visit(several[1])
        assert pool.shared.open == 1, "it opened one more"
    visit(several[1])


def test_those_in_line_are_served_in_their_order(
    several: list[Company], settings: Settings
) -> None:
    settings.ORG_MAX_CONNECTIONS = 1
    order: list[int] = []

    def visit_and_tell(number: int) -> None:
        with tenancy.override(several[number].tenant):
            User.objects.get()
            order.append(number)

    with Threads(4) as threads:
        with tenancy.override(several[0].tenant):
            User.objects.get()
            waiting = []
            for number in (3, 1, 4, 2):
                waits = pool.shared.waits
                waiting.append(threads.submit(visit_and_tell, number))
                wait_until(lambda waits=waits: pool.shared.waits > waits)  # type: ignore[misc]
        for one in waiting:
            one.result(timeout=30)
    assert order == [3, 1, 4, 2]


def test_a_connection_that_the_server_ended_is_not_handed_out(
    alpha: Company, superuser: Superuser
) -> None:
    ended = backend(alpha)
    superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (ended,))
    assert backend(alpha) != ended
    assert pool.shared.open == 1, "the dead one is counted"


def test_several_dead_connections_are_skipped(alpha: Company, superuser: Superuser) -> None:
    together = threading.Barrier(3)

    def hold() -> int:
        with tenancy.override(alpha.tenant):
            mine = backend_here()
            together.wait(30)
            return mine

    with Threads(3) as threads:
        held = [job.result(30) for job in [threads.submit(hold) for _ in range(3)]]
    superuser.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) AS pid", (held,))
    assert backend(alpha) not in held
    assert pool.shared.open == 1


def test_a_connection_comes_back_without_a_transaction_or_not_at_all(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        left = backend_here()
        connections[alpha.tenant.alias].set_autocommit(False)
        User.objects.get()
    assert backend(alpha) != left, "the next block has the last one's transaction"
    assert pool.shared.open == 1


def test_closing_inside_a_transaction_ends_it(alpha: Company) -> None:
    with tenancy.override(alpha.tenant), pytest.raises(DatabaseError), tenancy.atomic():
        left = backend_here()
        tenancy.connection().close()
        User.objects.get()
    assert backend(alpha) != left


def test_a_cursor_kept_from_a_block_runs_nothing_in_the_next(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        kept = tenancy.connection().cursor()
        kept.execute("SELECT 1")
    with tenancy.override(alpha.tenant), tenancy.atomic():
        User.objects.get()
        with pytest.raises(psycopg.InterfaceError, match="closed"):
            kept.cursor.execute("SELECT 2")


def test_a_server_side_cursor_that_is_left_open_ends_with_its_session(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        left = backend_here()
        iterator = User.objects.iterator(chunk_size=1)
        next(iterator)
    assert backend(alpha) != left, "the next block has the last one's open cursor"
    del iterator


def test_two_blocks_name_their_server_side_cursors_apart(alpha: Company) -> None:
    for _ in range(3):
        with tenancy.override(alpha.tenant):
            assert [user.email for user in User.objects.iterator()] == [alpha.email]
    assert pool.shared.open == 1


def test_a_thread_that_ends_with_a_connection_gives_its_room_back(
    alpha: Company, recwarn: pytest.WarningsRecorder
) -> None:
    def leave_open() -> None:
        entered = tenancy.override(alpha.tenant)
        entered.__enter__()
        User.objects.get()
        registry._here.opened.clear()
        registry._here.pins.clear()
        connections["default"].close()

    thread = threading.Thread(target=leave_open)
    thread.start()
    thread.join()
    gc.collect()
    wait_until(lambda: pool.shared.open == 0)
    registry._pins.clear()
    assert "was deleted while still open" in str(recwarn.pop(ResourceWarning).message)


def test_a_connection_idle_for_long_is_closed(
    alpha: Company, beta: Company, settings: Settings
) -> None:
    visit(alpha)
    settings.ORG_CONNECTION_IDLE_SECONDS = 0
    visit(beta)
    pool.shared.close_outlived()
    assert pool.shared.open == 0


def test_an_alias_that_goes_takes_its_idle_connections_along(alpha: Company) -> None:
    visit(alpha)
    registry.forget(alpha.tenant.alias)
    assert pool.shared.open == 0


def test_a_connection_in_use_when_its_alias_goes_is_closed_afterwards(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        old = backend_here()
        registry.forget(alpha.tenant.alias)
        assert backend_here() == old, "the running block lost its connection"
    assert pool.shared.open == 0
    assert backend(alpha) != old


def test_a_connection_of_an_alias_registered_again_is_closed(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        old = backend_here()
        registry.forget(alpha.tenant.alias)
        new = in_thread(lambda: backend(alpha))
    assert pool.shared.open == 1, "a connection of the old settings is kept"
    assert new != old and backend(alpha) == new


def test_a_lower_ceiling_closes_what_is_above_it(
    several: list[Company], settings: Settings
) -> None:
    visit(*several[:4])
    assert pool.shared.open == 4
    settings.ORG_MAX_CONNECTIONS = 2
    visit(several[3])
    assert pool.shared.open == 2


def test_a_failed_connect_frees_its_slot_and_its_thread(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ORG_MAX_CONNECTIONS, settings.ORG_CONNECTION_WAIT_SECONDS = 1, 0.05
    settings.ORG_MAX_THREADS = 1
    monkeypatch.setattr(guard, "_serves_requests", True)
    entry = pool.DatabaseEntry()

    def refuse() -> Any:
        raise psycopg.OperationalError("nobody is there")

    for _ in range(3):
        with pytest.raises(psycopg.OperationalError):
            pool.shared.take(entry, refuse)
    assert pool.shared.open == 0


def test_a_child_of_a_fork_opens_its_own_connections(alpha: Company, superuser: Superuser) -> None:
    before = backend(alpha)

    def visit_and_forget() -> None:
        assert pool.shared.open == 0, "the child counts its parent's connections"
        assert backend(alpha) != before, "the child has its parent's session"
        registry.forget(alpha.tenant.alias)
        gc.collect()

    with Fork(visit_and_forget) as child:
        assert child.wait() == 0
    assert backend(alpha) == before, "the child has ended its parent's session"


def test_many_threads_and_organizations_stay_below_the_ceiling(
    several: list[Company], settings: Settings, superuser: Superuser
) -> None:
    """32 threads, six databases under 150 aliases."""
    settings.ORG_MAX_CONNECTIONS = ceiling = 8
    names = [company.organization.database_name for company in several]
    made_up = aliases_for(several, 150)

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            tenant, email = made_up[number]
            with tenancy.override(tenant):
                if number % 7 == 0:
                    with tenancy.atomic():
                        assert User.objects.select_for_update().get().email == email
                else:
                    assert User.objects.get().email == email

    with Threads(32) as threads:
        jobs = [
            threads.submit(work, itertools.islice(itertools.cycle(range(150)), at, at + 5))
            for at in range(0, 32 * 5, 5)
        ]
        for job in jobs:
            job.result(timeout=120)
    assert pool.shared.open <= ceiling
    # A session that was told to end is still listed for a moment.
    count = "SELECT 1 FROM pg_stat_activity WHERE datname = ANY(%s) HAVING count(*) <= %s"
    wait_for(superuser, count, names, ceiling)
    assert lent() == 0


def parameters(superuser: Superuser) -> dict[str, Any]:
    from tests.plugin import SERVER

    return dict(SERVER.superuser_parameters())


def aliases_for(companies: list[Company], count: int) -> list[tuple[tenancy.Tenant, str]]:
    """Tenants with made-up ids at the places of real ones."""
    found = []
    for number in range(count):
        company = companies[number % len(companies)]
        tenant = tenancy.Tenant(10**9 + number, "twin", place=company.organization.place)
        found.append((tenant, company.email))
    return found


def test_a_bare_transaction_is_still_the_masters(alpha: Company) -> None:
    with tenancy.override(alpha.tenant), transaction.atomic():
        assert connections["default"].in_atomic_block
        assert not tenancy.connection().in_atomic_block


def test_a_request_that_finds_none_free_is_answered_503_with_retry_after(
    alpha: Company, beta: Company, settings: Settings, client: Client
) -> None:
    token = alpha.token(client)
    settings.ORG_MAX_CONNECTIONS, settings.ORG_CONNECTION_WAIT_SECONDS = 1, 0.05
    ask = partial(client.get, "/api/v1/me/", headers={"Authorization": f"Bearer {token}"})
    inside, leave = threading.Event(), threading.Event()

    def occupy() -> None:
        with tenancy.override(beta.tenant):
            User.objects.get()
            inside.set()
            assert leave.wait(30)

    with Threads(1) as threads:
        occupying = threads.submit(occupy)
        assert inside.wait(30)
        response = ask()
        leave.set()
        occupying.result(timeout=30)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert response.json()["code"] == "too_busy"
    assert ask().status_code == 200
