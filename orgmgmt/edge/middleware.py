"""FreshContextMiddleware: a fresh context per request. EdgeMiddleware: checks and JSON errors."""

from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from typing import cast

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    StreamingHttpResponse,
    UnreadablePostError,
)
from django.http.response import HttpResponseBase
from rest_framework.response import Response

from organizations import tenancy
from organizations.tenancy import NoTenant

from .exceptions import body, domain_answer
from .handlers import respond
from .health import HealthView, ReadyView

# Without a trailing slash. `/admin/login` is not among them: with a slash it is Django admin's
# login page.
SLASHLESS = frozenset(
    {"/org/create", "/org/get", "/health", "/ready", "/docs", "/redoc", "/openapi.json"}
)


_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


class FreshContextMiddleware:
    """Runs each request in its own context, so that what it activates ends with it.

    This covers the time zone, the language, the URL configuration, and everything else in an
    asgiref Local or a ContextVar. A thread serves many requests; an asynchronous server has a task
    for each.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # Reset what is left in the thread itself, outside the request's context.
        tenancy.reset()
        context = copy_context()
        response = context.run(self.get_response, request)
        if isinstance(response, StreamingHttpResponse) and not response.is_async:
            content = cast("Iterator[bytes]", response.streaming_content)
            response.streaming_content = _steps(context, content)
        return response


def _steps(context: Context, content: Iterator[bytes]) -> Iterator[bytes]:
    """Produce a streamed body in its request's context."""
    end = object()
    try:
        while (part := context.run(next, content, end)) is not end:
            yield cast(bytes, part)
    finally:
        context.run(getattr(content, "close", lambda: None))


class EdgeMiddleware:
    """Handles invalid requests and /health, and accepts paths with or without a trailing slash.

    Rewrites the path instead of redirecting: a redirected POST loses its body.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.probes: dict[str, Callable[[HttpRequest], Response]] = {
            "/health": HealthView.as_view(),
            "/ready": ReadyView.as_view(),
        }

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._answer(request)
        if isinstance(response, HttpResponseNotAllowed) and not response.content:
            # From a view outside DRF.
            allowed = response["Allow"]
            detail = f"Method {request.method} is not allowed. Use {allowed}."
            response = respond(request, 405, body(detail, "method_not_allowed"))
            response["Allow"] = allowed
        if request.method == "HEAD" and isinstance(response, HttpResponse):
            # Keep the Content-Length; gunicorn warns about a body that it drops.
            response.content = b""
        return response

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        if probe := self.probes.get(request.path_info.removesuffix("/")):
            # Load balancers ask by IP address, whatever ALLOWED_HOSTS says, and often.
            response = probe(request)
            response.render()
            return response
        if refusal := _refusal(request):
            return refusal
        try:
            # Read all of it before checking the login: a withheld body must not keep alive a login
            # that ends meanwhile.
            _ = request.body
        except UnreadablePostError:
            detail = "The body is shorter than its Content-Length. Send it again."
            return respond(request, 400, body(detail, "bad_request"))
        spelled = _canonical(request.path_info)
        if spelled != request.path_info:
            request.path_info = spelled
            request.path = request.path.removesuffix("/") + ("/" if spelled.endswith("/") else "")
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exc: Exception) -> HttpResponseBase | None:
        """Turn an error that no view has answered into our JSON format, unless it is a bug."""
        refused = getattr(request, "credential", None)
        if isinstance(exc, NoTenant) and isinstance(refused, Exception):
            # No organization is active because the login is invalid: answer with that.
            exc = refused
        answer = domain_answer(exc, request)
        return None if answer is None else respond(request, *answer)


def _refusal(request: HttpRequest) -> HttpResponse | None:
    try:
        request.get_host()
    except DisallowedHost:
        detail = "Unknown host. Add it to ALLOWED_HOSTS."
        return respond(request, 400, body(detail, "unknown_host"))
    if "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH"):
        # Django reads only CONTENT_LENGTH, and would see an empty body.
        detail = "Send a Content-Length. Chunked bodies are not accepted."
        return respond(request, 411, body(detail, "length_required"))
    length = request.META.get("CONTENT_LENGTH") or "0"
    limit: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if not (length.isascii() and length.isdigit()) or int(length) > limit:
        detail = f"The body is too large. Send at most {limit} bytes."
        return respond(request, 413, body(detail, "too_large"))
    # In a query string the API names the field; Django admin would query the database with it.
    in_query = "%00" in request.META.get("QUERY_STRING", "") and _is_django_admin(request)
    if in_query or "\x00" in request.path_info:
        return respond(request, 400, body("The URL contains a NUL character.", "bad_request"))
    if any("\x00" in value for value in request.COOKIES.values()):
        return respond(request, 400, body("A cookie contains a NUL character.", "bad_request"))
    charset = request.content_params.get("charset", "utf-8") if request.content_params else "utf-8"
    if charset.strip().lower() not in _CHARSETS:
        # Python would decode with any codec named here, also the query string.
        detail = "This charset is not supported. Send UTF-8."
        return respond(request, 415, body(detail, "unsupported_media_type"))
    return None


def _is_django_admin(request: HttpRequest) -> bool:
    return request.path_info.startswith("/admin/") and request.path_info != "/admin/login"


def _canonical(path: str) -> str:
    bare = path.removesuffix("/")
    if bare in SLASHLESS:
        return bare
    if path.startswith("/api/") and not path.endswith("/"):
        return f"{path}/"
    return path
