"""Error responses that no DRF view makes: Django's handlers, and those of middleware."""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers

from accounts.api.negotiation import prefers_page

from .exceptions import SUSPICIOUS, body, domain_answer


def respond(
    request: HttpRequest,
    status: int,
    content: dict[str, Any],
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """The error as JSON, or as a page for a browser below /api/."""
    below = request.path_info.startswith("/api/")
    if below and prefers_page(request):
        # Not the request itself: whatever went wrong, the page must query nothing.
        policy = {"csp": getattr(request, "csp", None)}
        page = render_to_string(
            "error.html", {"status": status, "error": content, "request": policy}
        )
        response = HttpResponse(page, status=status, headers=headers)
    else:
        response = JsonResponse(content, status=status, headers=headers)
    if below:
        patch_vary_headers(response, ("Accept",))
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400. Also called for a session that could not be saved."""
    cause: BaseException | None = exception
    while cause is not None and not isinstance(cause, OperationalError | InterfaceError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None and (answer := domain_answer(cause, request)) is not None:
        return respond(request, *answer)
    detail = "The request is not readable."
    if isinstance(exception, SuspiciousOperation):
        detail = SUSPICIOUS
    return respond(request, 400, body(detail, "bad_request"))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403."""
    return respond(request, 403, body("You may not do this.", "permission_denied"))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Django's handler404, and the last URL pattern, so that DEBUG answers in the same format."""
    return respond(
        request, 404, body("There is nothing here. See /docs for the paths.", "not_found")
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500; the error itself is in the log."""
    return respond(
        request, 500, body("Something went wrong on our side. The error was logged.", "error")
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's CSRF_FAILURE_VIEW."""
    return respond(request, 403, body("The form has expired. Reload the page.", "csrf_failed"))
