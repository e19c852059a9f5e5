"""The schema and its two pages, without a word to or from another host."""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView
from rest_framework.request import Request

# Both pages are built by scripts of their own that write styles into the page; ReDoc searches in
# a worker made from a blob, and would fetch its maker's logo.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; frame-ancestors 'none'"
)


class SchemaView(SpectacularAPIView):
    """/openapi.json"""

    http_method_names = ["get", "head"]
    renderer_classes = [OpenApiJsonRenderer]

    def _get_version_parameter(self, request: Request) -> None:
        """There is one version. spectacular's own puts ?version= into a header as it comes."""
        return None


class _OwnHostOnly:
    """Sends the Content-Security-Policy of the two pages."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        response["Content-Security-Policy"] = _POLICY
        return response


class SwaggerView(_OwnHostOnly, SpectacularSwaggerView):
    """/docs"""

    http_method_names = ["get", "head"]


class RedocView(_OwnHostOnly, SpectacularRedocView):
    """/redoc"""

    http_method_names = ["get", "head"]
