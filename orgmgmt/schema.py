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

from .exceptions import body


class ErrorOutput(serializers.Serializer[Any]):
    """The one shape of an error."""

    detail = serializers.CharField(help_text="A sentence that says what to do.")
    code = serializers.CharField(help_text="A word for programs.")
    fields = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="What is wrong with which field; of validation errors alone.",
    )


_ERRORS: dict[int, tuple[str, dict[str, Any]]] = {
    400: (
        "Something in the request is not valid.",
        body("email: Enter a valid email address.", "invalid", {"email": ["Enter a valid …"]}),
    ),
    401: (
        "No valid login.",
        body("The token is invalid, expired or revoked. Log in again.", "invalid_token"),
    ),
    403: ("Not allowed.", body("Only the organization's admins may do this.", "admin_required")),
    404: ("Not found.", body("There is no organization called 'X'. …", "organization_not_found")),
    409: (
        "In conflict with what exists.",
        body(
            "The name 'X' is taken (case, spaces and punctuation are ignored). …",
            "organization_exists",
        ),
    ),
    411: (
        "A body without a Content-Length.",
        body("Send the body with a Content-Length, not in chunks.", "length_required"),
    ),
    413: ("Too large.", body("The body is too large. …", "too_large")),
    414: (
        "The address is too long.",
        body("The address is too long. Send less in its query.", "address_too_long"),
    ),
    415: (
        "Another content type than JSON.",
        body("Send the body as application/json.", "unsupported_media_type"),
    ),
    429: (
        "Too many requests; Retry-After says when to come again.",
        body("Too many requests. Try again in 12 seconds.", "throttled"),
    ),
    431: (
        "The headers are too large.",
        body("The headers are too large. Send fewer or shorter ones.", "headers_too_large"),
    ),
    503: (
        "The database cannot be reached, or has not the schema of this version yet "
        "(`organization_migrating`); Retry-After says when to come again.",
        body("The database cannot be reached at this moment. …", "database_unavailable"),
    ),
}


_RETRY_AFTER = {
    "Retry-After": {
        "description": "When to come again, in seconds.",
        "schema": {"type": "integer", "minimum": 1},
    }
}


class _Bearer(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class _BrowserSession(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.BrowserSessionAuthentication"
    name = "browserSession"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": settings.ORG_SESSION_COOKIE_NAME}


class _StaffSession(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "organizations.authentication.StaffSessionAuthentication"
    name = "staffSession"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


def _may_be_empty(parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**parameter, "allowEmptyValue": True} for parameter in parameters]


# Of a viewset that does not say which of its actions can meet a conflict.
_WRITES = ("create", "update", "partial_update", "destroy")


class Operation(AutoSchema):
    """spectacular's own, with our errors added to each operation's responses.

    A view adds its own: `error_statuses`, `conflicting_actions` (the actions of a viewset that can
    answer 409), and `asks_no_database` if it needs no server.
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
        """JSON alone where every view reads the same: forms are the browsable API's own way to send
        it, and a generated client would have three of each body.

        A view with parsers of its own, for files say, names them.
        """
        if self.view.parser_classes == APIView.parser_classes:
            return [JSONParser.media_type]
        return super().map_parsers()

    def _get_filter_parameters(self) -> list[dict[str, Any]]:
        """A form sends the filters that nobody filled in as well: empty ones filter nothing."""
        return _may_be_empty(super()._get_filter_parameters())  # type: ignore[no-untyped-call]

    def _get_pagination_parameters(self) -> list[dict[str, Any]]:
        """As for filters."""
        return _may_be_empty(super()._get_pagination_parameters())  # type: ignore[no-untyped-call]

    def _error_statuses(self) -> set[int]:
        # 400: a host that is not served. What cannot be read at all: orgmgmt/worker.py.
        statuses = {400, 414, 431, *getattr(self.view, "error_statuses", ())}
        if not getattr(self.view, "asks_no_database", False):
            statuses.add(503)
        if self.method in ("POST", "PUT", "PATCH") and self.get_request_serializer() is not None:
            statuses |= {411, 413, 415}
        if not any(isinstance(each, AllowAny) for each in self.view.get_permissions()):
            statuses |= {401, 403, 429}
        if "{" in self.path:
            statuses.add(404)
        if self._is_list_view():
            statuses.add(404)  # A page that is not there.
        if getattr(self.view, "action", None) in getattr(self.view, "conflicting_actions", _WRITES):
            statuses.add(409)
        return statuses
