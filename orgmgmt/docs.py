"""Serves the OpenAPI schema, Swagger UI and Redoc, without external resources."""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView
from rest_framework.request import Request

from .edge.headers import policy_of


class _SchemaRenderer(OpenApiJsonRenderer):
    """JSON as application/json, which every client can read."""

    media_type = "application/json"


class SchemaView(SpectacularAPIView):
    """/openapi.json"""

    http_method_names = ["get", "head"]
    renderer_classes = [_SchemaRenderer]

    def _get_version_parameter(self, request: Request) -> None:
        """There is only one version. spectacular's own copies ?version= into a header unchecked."""
        return None


class SwaggerView(SpectacularSwaggerView):
    """/docs"""

    http_method_names = ["get", "head"]


class RedocView(SpectacularRedocView):
    """/redoc"""

    http_method_names = ["get", "head"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # Its search runs in a worker made from a blob.
        policy_of(request).allow("worker-src", "blob:")
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        return response
