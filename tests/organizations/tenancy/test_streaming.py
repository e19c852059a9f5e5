"""Streaming responses: iterables that continue after their block has ended."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from pytest_django import Settings

from accounts.models import User
from organizations import tenancy
from organizations.tenancy import RegistryFull, registry
from tests.conftest import Company

from .conftest import lent

Sessions = Callable[[Company, int], None]
CROWD = 30


@pytest.fixture
def crowd(alpha: Company, beta: Company) -> Iterator[dict[str, list[str]]]:
    """Thirty more users in alpha and in beta; their addresses in order, by slug."""
    emails = {}
    for company in (alpha, beta):
        slug = company.tenant.slug
        emails[slug] = [f"{number:02}@{slug}.example" for number in range(CROWD)]
        with tenancy.override(company.tenant):
            User.objects.bulk_create(User(email=e, email_key=e) for e in emails[slug])
    yield emails
    for company in (alpha, beta):
        with tenancy.override(company.tenant):
            User.objects.filter(email__in=emails[company.tenant.slug]).delete()


def addresses() -> Iterator[str]:
    """Yield addresses by a server-side cursor, a few rows at a time."""
    people = User.objects.order_by("email").filter(email__regex=r"^\d\d@")
    for user in people.iterator(chunk_size=2):
        yield user.email


def test_a_server_side_cursor_is_read_beyond_its_block(
    alpha: Company, crowd: dict[str, list[str]]
) -> None:
    with tenancy.override(alpha.tenant):
        stream = tenancy.iterate(alpha.tenant, addresses())
    read = [next(stream)]
    assert lent() == 1
    assert [*read, *stream] == crowd[alpha.tenant.slug]
    assert lent() == 0
    assert not +registry._pins, "the end did not release the pin"


def test_the_organization_is_active_in_each_step_and_at_no_other_time(
    alpha: Company, beta: Company
) -> None:
    def steps() -> Iterator[str]:
        for _ in range(3):
            yield tenancy.get().slug

    seen = []
    with tenancy.override(beta.tenant):
        for slug in tenancy.iterate(alpha.tenant, steps()):
            seen.append(slug)
            assert tenancy.get() == beta.tenant, "the iteration left its organization on"
    assert seen == [alpha.tenant.slug] * 3
    assert tenancy.peek() is None


def test_two_streams_that_take_turns_read_their_own_rows(
    alpha: Company, beta: Company, crowd: dict[str, list[str]]
) -> None:
    ours = tenancy.iterate(alpha.tenant, addresses())
    theirs = tenancy.iterate(beta.tenant, addresses())
    pairs = list(zip(ours, theirs, strict=True))
    assert [pair[0] for pair in pairs] == crowd[alpha.tenant.slug]
    assert [pair[1] for pair in pairs] == crowd[beta.tenant.slug]


def test_a_queryset_is_read_where_the_stream_belongs(
    alpha: Company, beta: Company, crowd: dict[str, list[str]]
) -> None:
    with tenancy.override(beta.tenant):
        stream = tenancy.iterate(alpha.tenant, User.objects.order_by("email")[:1])
        assert [user.email for user in stream] == crowd[alpha.tenant.slug][:1]


def test_closing_a_stream_early_cleans_up_inside_and_unpins(
    alpha: Company, crowd: dict[str, list[str]]
) -> None:
    ended_in = []

    def steps() -> Iterator[str]:
        try:
            yield from addresses()
        finally:
            ended_in.append(tenancy.peek())

    stream = tenancy.iterate(alpha.tenant, steps())
    next(stream)
    stream.close()
    stream.close()
    assert ended_in == [alpha.tenant], "the iterable's end ran outside of its organization"
    assert not +registry._pins, "the pin was not released, or twice"
    assert lent() == 0


def test_a_step_that_raises_releases_the_pin(alpha: Company) -> None:
    def steps() -> Iterator[bool]:
        yield User.objects.exists()
        raise LookupError("broken")

    stream = tenancy.iterate(alpha.tenant, steps())
    next(stream)
    with pytest.raises(LookupError, match="broken"):
        next(stream)
    assert tenancy.peek() is None and not +registry._pins, "the broken stream holds on"
    assert lent() == 0


def test_a_stream_that_is_dropped_lets_go_of_its_connection(
    alpha: Company, crowd: dict[str, list[str]]
) -> None:
    stream = tenancy.iterate(alpha.tenant, addresses())
    next(stream)
    del stream
    gc.collect()
    assert not +registry._pins, "the dropped stream holds its pin"
    assert lent() == 0


def test_an_alias_is_not_evicted_while_it_is_streamed(
    alpha: Company,
    beta: Company,
    crowd: dict[str, list[str]],
    settings: Settings,
) -> None:
    settings.ORG_MAX_ALIASES = 1
    for alias in registry.registered():
        registry.forget(alias)
    stream = tenancy.iterate(alpha.tenant, addresses())
    next(stream)
    with pytest.raises(RegistryFull):
        tenancy.override(beta.tenant).__enter__()
    assert len(list(stream)) == CROWD - 1
    with tenancy.override(beta.tenant):
        assert User.objects.exists(), "the ended stream still holds its place"


def test_an_iteration_that_reset_cut_short_holds_its_own_pin(
    alpha: Company, crowd: dict[str, list[str]]
) -> None:
    """The middleware resets at both ends of a request; the body is sent after that."""
    with tenancy.override(alpha.tenant):
        stream = tenancy.iterate(alpha.tenant, addresses())
        next(stream)
        tenancy.reset()
    assert len(list(stream)) == CROWD - 1


def test_a_plain_iterator_yields_nothing_of_another_organization(
    alpha: Company, beta: Company, crowd: dict[str, list[str]]
) -> None:
    with tenancy.override(alpha.tenant):
        unstarted = addresses()
    with tenancy.override(beta.tenant):
        assert list(unstarted) == crowd[beta.tenant.slug], "it reads where it runs"


def run_async(main: Callable[[], object]) -> None:
    async def closing() -> None:
        try:
            await main()  # type: ignore[misc]
        finally:
            await sync_to_async(connections.close_all)()

    asyncio.run(closing())


async def aaddresses() -> AsyncIterator[str]:
    people = User.objects.order_by("email").filter(email__regex=r"^\d\d@")
    async for user in people.aiterator(chunk_size=2):
        yield user.email


@pytest.fixture
def warm(alpha: Company, beta: Company) -> None:
    """Both aliases are registered."""
    with tenancy.override(alpha.tenant), tenancy.override(beta.tenant):
        pass


def test_two_asynchronous_streams_read_their_own_rows(
    alpha: Company, beta: Company, crowd: dict[str, list[str]], warm: None
) -> None:
    async def read(company: Company) -> list[str]:
        found = []
        async for email in tenancy.aiterate(company.tenant, aaddresses()):
            assert tenancy.peek() is None, "the stream left its organization on"
            found.append(email)
            await asyncio.sleep(0)
        return found

    async def main() -> None:
        ours, theirs = await asyncio.gather(read(alpha), read(beta))
        assert ours == crowd[alpha.tenant.slug]
        assert theirs == crowd[beta.tenant.slug]
        assert not +registry._pins, "a pin is left"

    run_async(main)


def test_closing_an_async_stream_early_cleans_up_inside_and_unpins(
    alpha: Company, warm: None
) -> None:
    ended_in = []

    async def steps() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended_in.append(tenancy.peek())

    async def main() -> None:
        stream = tenancy.aiterate(alpha.tenant, steps())
        assert await anext(stream) == 1
        await stream.aclose()  # type: ignore[attr-defined]
        assert not +registry._pins, "the pin was not released"
        assert ended_in == [alpha.tenant], "the iterable's end did not run in its organization"

    run_async(main)
