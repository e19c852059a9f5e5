"""Request origin: the user, address and request id in audit entries and log lines."""

import logging
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import Client, RequestFactory
from pytest_django import Settings

from organizations.tenancy import trail
from organizations.tenancy.trail import Origin
from orgmgmt.edge.origin import OriginMiddleware
from orgmgmt.logging import TenantFilter

pytestmark = pytest.mark.pure

factory = RequestFactory()


def pass_through(request: HttpRequest, response: HttpResponseBase | None = None) -> list[Origin]:
    """Who acted while the view ran."""
    seen: list[Origin] = []

    def view(request: HttpRequest) -> HttpResponseBase:
        seen.append(trail.origin())
        return response or HttpResponse()

    answer = OriginMiddleware(view)(request)
    assert answer["X-Request-ID"] == seen[0].request_id
    assert trail.origin() == Origin(), "the thread keeps something of the request"
    return seen


def test_a_request_id_that_is_one_is_taken_and_another_is_replaced() -> None:
    for given in ("a", "A-b_c.9", "x" * 64):
        (origin,) = pass_through(factory.get("/", headers={"X-Request-ID": given}))
        assert origin.request_id == given
    for given in ("", "x" * 65, "a b", "a\nb", "ä", "<script>", "a;b", "١"):
        (origin,) = pass_through(factory.get("/", headers={"X-Request-ID": given}))
        assert re.fullmatch(r"[0-9a-f]{32}", origin.request_id), given


def test_two_requests_have_two_ids_and_are_anonymous() -> None:
    (first,), (second,) = (pass_through(factory.get("/")) for _ in range(2))
    assert first.request_id != second.request_id
    assert (first.actor, first.actor_id, first.address) == ("anonymous", None, "127.0.0.1")


def test_with_a_proxy_the_address_is_what_it_wrote(settings: Settings) -> None:
    settings.TRUSTED_PROXY_HOPS = 1
    addresses = {
        "203.0.113.8": "203.0.113.8",
        "203.0.113.8:4711": "203.0.113.8",
        "[2001:db8::8]:4711": "2001:db8::8",
        "[2001:db8::8]": "2001:db8::8",
        "2001:db8::8": "2001:db8::8",
        "203.0.113.8:": None,
        "[203.0.113.8:1": None,
        "unknown": None,
    }
    found = {}
    for written in addresses:
        headers = {"X-Forwarded-For": f"1.1.1.1, {written}"}
        (origin,) = pass_through(factory.get("/", headers=headers))
        found[written] = origin.address
    assert found == addresses


def test_the_origin_ends_with_a_request_that_raises() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        trail.identify("user", 7)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        OriginMiddleware(view)(factory.get("/"))
    assert trail.origin() == Origin()


def test_a_streamed_body_is_the_same_persons_act_step_by_step() -> None:
    seen: list[Origin] = []

    def body() -> Iterator[bytes]:
        for _ in range(2):
            seen.append(trail.origin())
            yield b"x"

    def view(request: HttpRequest) -> StreamingHttpResponse:
        trail.identify("staff", 5)
        return StreamingHttpResponse(body())

    response: Any = OriginMiddleware(view)(factory.get("/"))
    for part in response:
        assert part == b"x"
        assert trail.origin() == Origin(), "between two steps the caller runs"
    assert [(each.actor, each.actor_id) for each in seen] == [("staff", 5)] * 2
    assert {each.request_id for each in seen} == {response["X-Request-ID"]}


def test_an_asynchronous_body_is_the_same_persons_act_too() -> None:
    seen: list[Origin] = []

    async def body() -> AsyncIterator[bytes]:
        seen.append(trail.origin())
        yield b"x"

    def view(request: HttpRequest) -> StreamingHttpResponse:
        trail.identify("staff", 5)
        return StreamingHttpResponse(body())

    response: Any = OriginMiddleware(view)(factory.get("/"))

    async def consume() -> None:
        async for _ in response:
            assert trail.origin() == Origin()

    async_to_sync(consume)()
    assert [(each.actor, each.actor_id) for each in seen] == [("staff", 5)]


def test_every_answer_carries_the_id_but_that_of_health(client: Client) -> None:
    headers = {"X-Request-ID": "mine"}
    for path in ("/", "/nowhere", "/api/v1/me/", "/docs", "/admin/"):
        assert client.get(path, headers=headers)["X-Request-ID"] == "mine", path
    refused = client.get("/", headers={**headers, "Host": "unknown.example"})
    assert (refused.status_code, refused["X-Request-ID"]) == (400, "mine")
    assert "X-Request-ID" not in client.get("/health", headers=headers)


def test_log_lines_say_which_request_they_are_of() -> None:
    def stamped() -> str:
        record = logging.makeLogRecord({})
        TenantFilter().filter(record)
        return str(record.__dict__["request_id"])

    assert stamped() == "-"
    with trail.acting(Origin("anonymous", request_id="r-1")):
        assert stamped() == "r-1"
