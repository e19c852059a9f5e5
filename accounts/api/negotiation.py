"""Content negotiation: HTML or JSON. Never answers 406; falls back to the first renderer."""

from collections.abc import Iterable
from functools import lru_cache

from django.http import HttpRequest
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from .parsers import StrictJSONParser

# Media types accepted by the paths of the first edition.
JSON_ONLY = (StrictJSONParser,)
# Real headers have fewer. Parsing each takes time.
_MOST_TYPES = 64
# The choice for a header is kept if it has at most so many characters: browsers' have fewer.
_LONGEST_KEPT = 256


def prefers_page(request: HttpRequest) -> bool:
    """Whether the client prefers HTML to JSON, as browsers do."""
    return _preferred(request, ["application/json", "text/html"]) == "text/html"


def _preferred(request: HttpRequest, media_types: list[str]) -> str:
    """The one preferred by the Accept header, or else the first."""
    accept: str = request.META.get("HTTP_ACCEPT", "*/*")
    choose = _choice if len(accept) <= _LONGEST_KEPT else _choice.__wrapped__
    return choose(accept, tuple(media_types))


@lru_cache(maxsize=256)
def _choice(accept: str, media_types: tuple[str, ...]) -> str:
    if accept.count(",") >= _MOST_TYPES:
        return media_types[0]
    request = HttpRequest()
    request.META["HTTP_ACCEPT"] = accept
    return request.get_preferred_type(media_types) or media_types[0]


class PageOrJson(DefaultContentNegotiation):
    """The renderer preferred by the client, or else the view's first, usually JSON.

    DRF's own ignores `q=`, and refuses clients that accept none of the renderers.
    """

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        choice = list(renderers)
        wanted = format_suffix or request.query_params.get(self.settings.URL_FORMAT_OVERRIDE)
        if wanted:
            choice = list(self.filter_renderers(choice, wanted))
        media_type = _preferred(request._request, [each.media_type or "" for each in choice])
        return next(each for each in choice if each.media_type == media_type), media_type


class JsonAlways(BaseContentNegotiation):
    """The first matching parser and the first renderer.

    For the paths of the first edition, which ignored the Accept header.
    """

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        content_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == content_type), None)

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type or ""
