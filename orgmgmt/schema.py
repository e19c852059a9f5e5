"""OpenAPI schema: adds the error responses to every operation."""

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.permissions import AllowAny
from rest_framework.views import APIView

from .edge.exceptions import body


class ErrorOutput(serializers.Serializer[Any]):
    """The format of all errors."""

    detail = serializers.CharField(help_text="What went wrong and what to do, for people.")
    code = serializers.CharField(help_text="The kind of error, for programs.")
    fields = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="Errors by field; only for validation errors.",
    )


_ERRORS: dict[int, tuple[str, dict[str, Any]]] = {
    400: (
        "The request is invalid.",
        body("email: Enter a valid email address.", "invalid", {"email": ["Enter a valid …"]}),
    ),
    401: (
        "Not logged in, or the login is no longer valid.",
        body("The token is invalid, expired or revoked. Log in again.", "invalid_token"),
    ),
    403: ("Not allowed.", body("Only the organization's admins may do this.", "admin_required")),
    404: ("Not found.", body("There is no organization called 'X'. …", "organization_not_found")),
    409: (
        "Conflict with existing data.",
        body(
            "The name 'X' is taken (case is ignored, and a hyphen counts as a space). …",
            "organization_exists",
        ),
    ),
    411: (
        "The Content-Length is missing.",
        body("Send a Content-Length. Chunked bodies are not accepted.", "length_required"),
    ),
    413: ("The body is too large.", body("The body is too large. …", "too_large")),
    414: (
        "The URL is too long.",
        body("The URL is too long. Shorten its query.", "address_too_long"),
    ),
    415: (
        "The content type is not JSON.",
        body("Send the body as application/json.", "unsupported_media_type"),
    ),
    422: (
        "The Idempotency-Key was used for another request.",
        body("This Idempotency-Key was used for another request. …", "idempotency_key_reused"),
    ),
    429: (
        "Too many requests. Retry-After says when to retry.",
        body("Too many requests. Try again in 12 seconds.", "throttled"),
    ),
    431: (
        "The headers are too large.",
        body("The headers are too large. Send fewer or shorter ones.", "headers_too_large"),
    ),
    503: (
        "The database is unavailable, or not yet migrated to this version "
        "(`organization_migrating`). Retry-After says when to retry.",
        body("The database is unavailable right now. …", "database_unavailable"),
    ),
}


_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait before a retry.",
        "schema": {"type": "integer", "minimum": 1},
    }
}


class _Bearer(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.api.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class _BrowserSession(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.api.authentication.BrowserSessionAuthentication"
    name = "browserSession"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": settings.ORG_SESSION_COOKIE_NAME}


class _StaffSession(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "organizations.api.authentication.StaffSessionAuthentication"
    name = "staffSession"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


def _may_be_empty(parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**parameter, "allowEmptyValue": True} for parameter in parameters]


# The default for a viewset without `conflicting_actions`.
_WRITES = ("create", "update", "partial_update", "destroy")


class Operation(AutoSchema):
    """spectacular's own, with our errors added to each operation's responses.

    A view adds its own: `error_statuses`, `conflicting_actions` (the actions of a viewset that can
    answer 409), `idempotent_actions` (422), and `needs_no_database` if it needs no server.
    """

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        responses: dict[str, Any] = super()._get_response_bodies(direction)
        for status in sorted(self._error_statuses()):
            description, example = _ERRORS[status]
            response = OpenApiResponse(
                ErrorOutput, description, [OpenApiExample("Error", value=example)]
            )
            declared = self._get_response_for_code(  # type: ignore[no-untyped-call]
                response, str(status), direction=direction
            )
            if status in (429, 503):
                declared["headers"] = _RETRY_AFTER
            responses[str(status)] = declared
        return responses

    def map_parsers(self) -> list[Any]:
        """JSON only, for a view with the default parsers. Form parsers are for the browsable API:
        with them a generated client would have three variants of each body.

        A view with its own parsers, for uploads for example, lists them.
        """
        if self.view.parser_classes == APIView.parser_classes:
            return [JSONParser.media_type]
        return super().map_parsers()

    def _get_filter_parameters(self) -> list[dict[str, Any]]:
        """Allow empty values: a form also sends the filters that nobody filled in."""
        return _may_be_empty(super()._get_filter_parameters())  # type: ignore[no-untyped-call]

    def _get_pagination_parameters(self) -> list[dict[str, Any]]:
        """As for filters."""
        return _may_be_empty(super()._get_pagination_parameters())  # type: ignore[no-untyped-call]

    def _error_statuses(self) -> set[int]:
        # 400: an unknown host. Unreadable requests: orgmgmt/edge/worker.py.
        statuses = {400, 414, 431, *getattr(self.view, "error_statuses", ())}
        if not getattr(self.view, "needs_no_database", False):
            statuses.add(503)
        if self.method in ("POST", "PUT", "PATCH") and self.get_request_serializer() is not None:
            statuses |= {411, 413, 415}
        if not any(isinstance(each, AllowAny) for each in self.view.get_permissions()):
            statuses |= {401, 403, 429}
        if "{" in self.path:
            statuses.add(404)
        if self._is_list_view():
            statuses.add(404)  # A page that does not exist.
        if getattr(self.view, "action", None) in getattr(self.view, "conflicting_actions", _WRITES):
            statuses.add(409)
        if getattr(self.view, "action", None) in getattr(self.view, "idempotent_actions", ()):
            statuses.add(422)
        return statuses
