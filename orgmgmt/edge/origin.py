"""Middleware that gives each request an id and an origin, for the audit trail and the log."""

import re
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator

from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from organizations.tenancy import trail
from organizations.tenancy.http import client_address
from organizations.tenancy.trail import Origin

from .exceptions import log_failure

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADER = "X-Request-ID"


class OriginMiddleware:
    """Attributes everything recorded during a request to its sender.

    The request's id is the client's (or a proxy's) if it is valid, and is returned.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info in ("/health", "/health/", "/ready", "/ready/"):
            return self.get_response(request)
        given = request.headers.get(HEADER, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        # A thread serves many requests: the block ends with this one.
        with trail.acting(Origin("anonymous", None, client_address(request), request_id)):
            response = self.get_response(request)
            _keep_for_streaming(response, trail.origin())
            if response.status_code >= 500:
                log_failure(request, response)
        response[HEADER] = request_id
        return response


def _keep_for_streaming(response: HttpResponseBase, origin: Origin) -> None:
    """A streamed body is produced after this middleware: keep its origin."""
    if not isinstance(response, StreamingHttpResponse):
        return
    content = response.streaming_content
    if response.is_async:
        response.streaming_content = _aiterate(origin, content)  # type: ignore[arg-type]
    else:
        response.streaming_content = _iterate(origin, content)  # type: ignore[arg-type]


def _iterate(origin: Origin, content: Iterable[bytes]) -> Iterator[bytes]:
    # Entered for each step: the caller runs in between.
    with trail.acting(origin):
        iterator = iter(content)
    while True:
        with trail.acting(origin):
            try:
                part = next(iterator)
            except StopIteration:
                return
        yield part


async def _aiterate(origin: Origin, content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    with trail.acting(origin):
        iterator = aiter(content)
    while True:
        with trail.acting(origin):
            try:
                part = await anext(iterator)
            except StopAsyncIteration:
                return
        yield part
