"""Front page of the browsable API: lists the endpoints."""

from collections.abc import Iterable, Iterator

from django.urls import URLPattern, URLResolver, get_resolver, get_urlconf
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

_ROOT = "api/v1/"


class ApiRootView(APIView):
    """The endpoints. Log in as a member of an organization, or as staff, to use them."""

    permission_classes = (AllowAny,)

    def get_view_name(self) -> str:
        return "API v1"

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        found = dict(_named(get_resolver(get_urlconf()).url_patterns, ""))
        return Response(
            {name: request.build_absolute_uri(f"/{found[name]}") for name in sorted(found)}
        )


def _named(patterns: Iterable[URLPattern | URLResolver], before: str) -> Iterator[tuple[str, str]]:
    """Name and path of each endpoint below /api/v1/ without an id; includes your own apps'."""
    for each in patterns:
        path = before + str(each.pattern).removeprefix("^").removesuffix("$")
        if not (path.startswith(_ROOT) or _ROOT.startswith(path)) or {"<", "("} & set(path):
            continue
        if isinstance(each, URLResolver):
            yield from _named(each.url_patterns, path)
        elif each.name and path != _ROOT and path.startswith(_ROOT):
            yield each.name.removesuffix("-list"), path
