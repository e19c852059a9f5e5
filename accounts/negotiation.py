"""Content negotiation: HTML or JSON. Never answers 406; falls back to the first renderer."""

from collections.abc import Iterable

from django.http import HttpRequest
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from .parsers import StrictJSONParser

# What the paths of the earlier edition read.
JSON_ONLY = (StrictJSONParser,)
# Nobody's header names more, and each costs time.
_MOST_TYPES = 64


def prefers_page(request: HttpRequest) -> bool:
    """Whether it is a browser's: one that would rather have HTML than JSON."""
    return _preferred(request, ["application/json", "text/html"]) == "text/html"


def _preferred(request: HttpRequest, media_types: list[str]) -> str:
    """The one that the Accept header likes best; the first where it does not say."""
    if request.headers.get("Accept", "").count(",") >= _MOST_TYPES:
        return media_types[0]
    return request.get_preferred_type(media_types) or media_types[0]


class PageOrJson(DefaultContentNegotiation):
    """The view's renderer that the client likes best, else its first: JSON for most of them.

    DRF's own passes over what `q=` says, and refuses whoever asks for nothing that there is.
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
    """The first parser of the right type and the first renderer.

    For the paths of the earlier edition, which looked at no Accept header.
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
