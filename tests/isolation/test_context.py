"""Threads, async tasks, streamed bodies and exceptions keep to their side."""

import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test import Client

from accounts.models import User
from organizations import tenancy
from organizations.isolation import Side, rows
from organizations.tenancy import NoTenant

pytest_plugins = ["tests.isolation.fixtures"]
pytestmark = pytest.mark.urls("tests.isolation.urls")


def _emails() -> list[str]:
    return list(User.objects.values_list("email", flat=True))


# --- Streamed bodies ----------------------------------------------------------------------------
def test_bodies_streamed_at_the_same_time_hold_their_own_sides_rows(
    ours: Side, theirs: Side
) -> None:
    for log_in in (Side.by_token, Side.by_cookie):
        bodies: list[Any] = [log_in(side).get("/test/stream") for side in (ours, theirs)]
        steps = [iter(body.streaming_content) for body in bodies]
        seen: list[list[bytes]] = [[], []]
        for _ in range(3):
            for lines, step in zip(seen, steps, strict=True):
                lines.append(next(step))
                assert tenancy.peek() is None, "a step has left its organization active"
        for body in bodies:
            body.close()
        for side, lines in zip((ours, theirs), seen, strict=True):
            assert all(side.domain.encode() in line for line in lines), lines
        assert seen[0] != seen[1]


def test_a_body_streamed_inside_another_organizations_block_keeps_its_own(
    ours: Side, theirs: Side
) -> None:
    body = ours.by_token().get("/test/stream")
    with tenancy.override(theirs.tenant):
        text = body.getvalue()
        assert tenancy.get() == theirs.tenant
    assert ours.domain.encode() in text
    assert not theirs.traces_in(text)


def test_a_body_streamed_without_a_login_holds_nothing(ours: Side, theirs: Side) -> None:
    body = Client().get("/test/stream")
    with pytest.raises(NoTenant):
        body.getvalue()


def test_a_stream_that_is_closed_early_leaves_nothing_active(ours: Side, theirs: Side) -> None:
    body: Any = ours.by_token().get("/test/stream")
    next(iter(body.streaming_content))
    body.close()
    assert tenancy.peek() is None
    assert theirs.by_token().get("/api/v1/me/").json()["email"] == f"admin@{theirs.domain}"


# --- Threads and tasks --------------------------------------------------------------------------
def test_threads_at_work_on_both_sides_see_their_own(ours: Side, theirs: Side) -> None:
    together = threading.Barrier(4)

    def work(side: Side) -> set[str]:
        found: set[str] = set()
        try:
            for _ in range(10):
                together.wait(timeout=30)
                with tenancy.override(side.tenant):
                    together.wait(timeout=30)
                    found |= {email.partition("@")[2] for email in _emails()}
        finally:
            connections.close_all()
        return found

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, [ours, theirs, ours, theirs]))
    assert results == [{ours.domain}, {theirs.domain}] * 2


def test_a_thread_that_served_one_side_serves_the_other_next(ours: Side, theirs: Side) -> None:
    def ask(side: Side) -> str:
        try:
            return str(side.by_token().get("/api/v1/me/").json()["email"])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        answers = list(pool.map(ask, [ours, theirs, ours, theirs]))
    assert answers == [f"admin@{ours.domain}", f"admin@{theirs.domain}"] * 2


def test_an_async_stream_is_in_its_organization_at_each_step_alone(
    ours: Side, theirs: Side
) -> None:
    async def lines() -> AsyncIterator[str]:
        async for user in User.objects.all():
            yield user.email

    @async_to_sync
    async def consume() -> list[str]:
        found = []
        async for line in tenancy.aiterate(ours.tenant, lines()):
            assert tenancy.peek() is None
            with tenancy.override(theirs.tenant):
                assert (await User.objects.aget(pk=rows.ADMIN)).email.endswith(theirs.domain)
            found.append(line)
        return found

    found = consume()
    assert found, "the stream was empty"
    assert all(line.endswith(ours.domain) for line in found), found


# --- Exceptions ---------------------------------------------------------------------------------
def test_an_exception_inside_a_block_leaves_the_block(ours: Side, theirs: Side) -> None:
    before = ours.contents()
    with tenancy.override(theirs.tenant):
        with pytest.raises(RuntimeError), tenancy.override(ours.tenant), tenancy.atomic():
            User.objects.all().delete()
            raise RuntimeError
        assert tenancy.get() == theirs.tenant
        assert all(email.endswith(theirs.domain) for email in _emails())
    assert ours.contents() == before, "the transaction was not rolled back"


def test_a_view_that_fails_leaves_nothing_to_the_next_request(ours: Side, theirs: Side) -> None:
    before = ours.contents()
    assert ours.by_token().get("/test/break-off").status_code == 500
    assert tenancy.peek() is None
    assert ours.contents() == before, "the transaction was not rolled back"
    assert theirs.by_token().get("/api/v1/me/").json()["email"] == f"admin@{theirs.domain}"
    assert Client().get("/api/v1/me/").status_code == 401
