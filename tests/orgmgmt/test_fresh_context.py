"""Each request gets a fresh context: nothing stays active in its thread afterwards."""

import contextvars
from collections.abc import Iterator

import pytest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, override_settings
from django.urls import path
from django.utils import timezone
from django.utils.translation import trans_real

from organizations import tenancy
from tests.conftest import Company

_mine = contextvars.ContextVar("mine", default="nobody's")


def _activate() -> None:
    timezone.activate("Asia/Tokyo")
    trans_real.activate("de")
    _mine.set("mine")


def _active() -> str:
    zone, language = timezone.get_current_timezone_name(), trans_real.get_language()
    return f"{zone} {language} {_mine.get()}"


def leave_activated(request: HttpRequest) -> HttpResponse:
    _activate()
    return HttpResponse(_active())


def look(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_active())


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        yield _active()
        _mine.set("the stream's")
        yield f", {_active()}"

    _activate()
    return StreamingHttpResponse(parts())


urlpatterns = [path("leave", leave_activated), path("look", look), path("stream", stream)]


@pytest.fixture(autouse=True)
def _urls() -> Iterator[None]:
    with override_settings(ROOT_URLCONF=__name__):
        yield


def test_what_a_request_activates_is_not_the_next_ones() -> None:
    before = _active()
    assert Client().get("/leave").content.decode() == "Asia/Tokyo de mine"
    assert Client().get("/look").content.decode() == before
    assert _active() == before


def test_what_the_thread_was_left_in_ends_with_the_next_request(alpha: Company) -> None:
    left = tenancy.override(alpha.tenant)
    left.__enter__()
    Client().get("/look")
    assert tenancy.peek() is None


def test_a_streamed_body_keeps_its_requests_context_and_leaves_nothing() -> None:
    before = _active()
    body = Client().get("/stream").getvalue().decode()
    assert body == "Asia/Tokyo de mine, Asia/Tokyo de the stream's"
    assert _active() == before
