"""Health endpoints: /health, /ready and the front page /."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import OpenApiExample, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.negotiation import JsonAlways
from organizations.errors import CredentialUnreadable
from organizations.recovery import credentials
from orgmgmt import __version__


class OpenView(APIView):
    """Needs no login, and makes no query."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = JsonAlways
    needs_no_database = True


class HealthView(OpenView):
    """Liveness, for load balancers."""

    @extend_schema(
        operation_id="health",
        summary="Liveness check",
        responses={
            200: inline_serializer("Health", {"status": serializers.CharField()}),
        },
        examples=[OpenApiExample("Answer", value={"status": "healthy"})],
        tags=["platform"],
        auth=[],
    )
    def get(self, request: Request) -> Response:
        return Response({"status": "healthy"})


class ReadyView(OpenView):
    """Readiness, for orchestrators. Queries the master."""

    needs_no_database = False

    @extend_schema(
        operation_id="ready",
        summary="Readiness check: master database and stored credentials",
        responses={
            200: inline_serializer("Ready", {"status": serializers.CharField()}),
        },
        examples=[OpenApiExample("Answer", value={"status": "ready"})],
        tags=["platform"],
        auth=[],
    )
    def get(self, request: Request) -> Response:
        found = credentials.sample()
        if found.unreadable and not found.any_readable:
            # CREDENTIAL_KEYS are wrong.
            raise CredentialUnreadable(found.unreadable[0])
        return Response({"status": "ready"})


class RootView(OpenView):
    """The front page."""

    def get_view_name(self) -> str:
        return "Home"

    @extend_schema(
        operation_id="root",
        summary="Name, version and links to the documentation",
        responses={
            200: inline_serializer(
                "Root",
                {
                    name: serializers.CharField()
                    for name in ("name", "version", "docs", "redoc", "openapi", "api")
                },
            )
        },
        examples=[
            OpenApiExample(
                "Answer",
                value={
                    "name": "Organization Management API",
                    "version": __version__,
                    "docs": "http://127.0.0.1:8000/docs",
                    "redoc": "http://127.0.0.1:8000/redoc",
                    "openapi": "http://127.0.0.1:8000/openapi.json",
                    "api": "http://127.0.0.1:8000/api/v1/",
                },
            )
        ],
        tags=["platform"],
        auth=[],
    )
    def get(self, request: Request) -> Response:
        answer: dict[str, Any] = {
            "name": "Organization Management API",
            "version": __version__,
        }
        for name, view in (
            ("docs", "docs"),
            ("redoc", "redoc"),
            ("openapi", "schema"),
            ("api", "api-root"),
        ):
            answer[name] = request.build_absolute_uri(reverse(view))
        return Response(answer)
