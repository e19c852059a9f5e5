"""The active organization belongs to its thread and task."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections
from django.db.backends.signals import connection_created

from accounts.models import User
from organizations import tenancy
from organizations.tenancy import NoTenant, WrongTenant, registry
from tests.conftest import Company

from .conftest import TWIN_ID, Twins

T = TypeVar("T")


def in_thread(function: Callable[[], T]) -> T:
    """Run `function` in a new thread; its result or exception."""

    def run() -> T:
        try:
            return function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(timeout=60)


def run_async(main: Callable[[], object]) -> None:
    """Run the coroutine function, and close what its queries opened in asgiref's thread."""

    async def closing() -> None:
        try:
            await main()  # type: ignore[misc]
        finally:
            await sync_to_async(connections.close_all)()

    asyncio.run(closing())


def test_a_new_thread_has_no_organization(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        assert in_thread(tenancy.peek) is None, "the thread inherited one"
        with pytest.raises(NoTenant):
            in_thread(User.objects.count)


def test_a_bound_function_takes_the_organization_along(
    alpha: Company, beta: Company, twins: Twins
) -> None:
    def email() -> str:
        return User.objects.get(pk=TWIN_ID).email

    with tenancy.override(alpha.tenant):
        bound = tenancy.bind(email)
    with tenancy.override(beta.tenant):
        assert in_thread(bound) == "twin@alpha.example"
        assert email() == "twin@beta.example", "the thread changed the caller's organization"


def test_binding_without_an_organization_fails_at_once() -> None:
    with pytest.raises(NoTenant):
        tenancy.bind(len)


def test_tasks_that_take_turns_read_their_own_organization(
    alpha: Company, beta: Company, twins: Twins
) -> None:
    async def emails(company: Company) -> set[str]:
        found = set()
        with tenancy.override(company.tenant):
            for _ in range(10):
                found.add((await User.objects.aget(pk=TWIN_ID)).email)
                await asyncio.sleep(0)
                assert tenancy.get() == company.tenant, "another task's organization is active"
        return found

    async def main() -> None:
        ours, theirs = await asyncio.gather(emails(alpha), emails(beta))
        assert ours == {"twin@alpha.example"}
        assert theirs == {"twin@beta.example"}
        assert tenancy.peek() is None, "a task changed its parent's organization"

    with tenancy.override(alpha.tenant), tenancy.override(beta.tenant):
        pass  # both aliases are registered
    run_async(main)


def test_a_task_may_meet_an_organization_this_process_has_not_seen(alpha: Company) -> None:
    registry.forget(alpha.tenant.alias)

    async def main() -> None:
        with tenancy.override(alpha.tenant):
            assert await User.objects.acount() > 0

    run_async(main)


def test_an_object_of_one_task_is_refused_in_another(
    alpha: Company, beta: Company, twins: Twins
) -> None:
    async def main() -> None:
        with tenancy.override(beta.tenant), pytest.raises(WrongTenant):
            await twins.alpha.asave()

    with tenancy.override(beta.tenant):
        pass
    run_async(main)


def test_a_decorated_coroutine_function_runs_inside(
    alpha: Company, beta: Company, twins: Twins
) -> None:
    @tenancy.override(alpha.tenant)
    async def email() -> str:
        await asyncio.sleep(0)
        return (await User.objects.aget(pk=TWIN_ID)).email

    async def main() -> None:
        with tenancy.override(beta.tenant):
            assert set(await asyncio.gather(email(), email())) == {"twin@alpha.example"}
            assert tenancy.get() == beta.tenant, "the coroutine left its organization on"

    with tenancy.override(alpha.tenant), tenancy.override(beta.tenant):
        pass
    run_async(main)


def test_a_task_that_outlives_the_block_has_no_organization(alpha: Company) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def child() -> None:
            assert tenancy.get() == alpha.tenant, "a task inherits its parent's organization"
            await ended.wait()
            assert tenancy.peek() is None, "the block has ended, and the task is still inside"
            with pytest.raises(NoTenant):
                await User.objects.acount()

        with tenancy.override(alpha.tenant):
            task = asyncio.create_task(child())
            await asyncio.sleep(0)
        ended.set()
        await task

    with tenancy.override(alpha.tenant):
        pass
    run_async(main)


def test_a_connection_left_by_a_task_does_not_outlive_new_settings(alpha: Company) -> None:
    async def backend(block: Callable[[], AbstractContextManager[None]]) -> int:
        def query() -> int:
            with block(), tenancy.connection().cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                return int(cursor.fetchone()[0])

        with tenancy.override(alpha.tenant):
            return await sync_to_async(query)()

    def warm() -> None:
        with tenancy.override(alpha.tenant):
            pass

    async def main() -> None:
        for block in (nullcontext, tenancy.atomic):
            first = await backend(block)
            # The organization moves, or its password changes; then it is met again.
            registry.forget(alpha.tenant.alias)
            in_thread(warm)
            assert await backend(block) != first, "the connection of the old settings was used"

    warm()
    run_async(main)


def test_the_end_of_a_request_does_not_reopen_an_outdated_connection(
    alpha: Company,
) -> None:
    def visit() -> None:
        with tenancy.override(alpha.tenant):
            pass

    async def main() -> None:
        with tenancy.override(alpha.tenant):
            await User.objects.acount()
        registry.forget(alpha.tenant.alias)
        in_thread(visit)
        # In the thread that the task's connection was left in, and in no organization.
        opened: list[object] = []

        def note(**kwargs: object) -> None:
            opened.append(kwargs["connection"])

        connection_created.connect(note)
        await sync_to_async(close_old_connections)()
        assert not opened, "a connection that nobody asked for"

    visit()
    run_async(main)
