"""Maps exceptions to HTTP error responses: which error has which status code is decided here.

One shape everywhere: {"detail": "a sentence", "code": "a_word", "fields": {"name": ["…"]}}, with
`fields` for validation errors only.
"""

import logging
from typing import Any

import psycopg
from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.db import DataError, IntegrityError, InterfaceError, InternalError, OperationalError
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from psycopg import errors as pg
from redis.exceptions import RedisError
from rest_framework import exceptions as drf
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from accounts import errors as account_errors
from accounts.api.negotiation import prefers_page
from organizations import errors, tenancy
from organizations.tenancy import TooBusy, registry

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2
SUSPICIOUS = "The request was refused. Check its Host header, its size and its number of fields."
_WRONG_SCHEME = (
    "This Authorization scheme is not supported. Send `Authorization: Bearer` and an access token."
)
# Not here: NoTenant and WrongTenant. They are bugs, so Django answers 500 and logs them; but after
# an invalid credential EdgeMiddleware answers NoTenant with that credential's error.
_STATUS: dict[type[Exception], int] = {
    **dict.fromkeys(errors.UNAVAILABLE, 503),
    errors.OrganizationNotFound: 404,
    errors.OrganizationExists: 409,
    errors.OrganizationBusy: 409,
    errors.OrganizationSuspended: 403,
    errors.OrganizationMismatch: 403,
    errors.OrganizationReadOnly: 403,
    errors.WrongState: 409,
    errors.DatabaseKept: 409,
    errors.DatabaseGone: 409,
    errors.UndeletionFailed: 409,
    errors.SeveralDeleted: 409,
    errors.BackupMissing: 409,
    errors.BackupNotFound: 409,
    errors.NothingToUndo: 409,
    errors.RestoreRunning: 409,
    errors.FilesKept: 409,
    errors.OrganizationArchived: 403,
    errors.SignUpClosed: 403,
    errors.SignUpUnknown: 404,
    errors.IdempotencyKeyInvalid: 400,
    errors.IdempotencyKeyReused: 422,
    errors.IdempotencyKeyInUse: 409,
    errors.JobNotFound: 404,
    errors.ExportNotFound: 404,
    errors.JobWrongState: 409,
    account_errors.TooManyRequests: 429,
    account_errors.InvalidCredentials: 401,
    account_errors.InvalidToken: 401,
    account_errors.InvalidLink: 400,
    account_errors.AdminRequired: 403,
    account_errors.UserExists: 409,
    account_errors.LastAdmin: 409,
    account_errors.UserGone: 404,
}

_HEADERS = {
    401: {"WWW-Authenticate": 'Bearer realm="api"'},
    503: {"Retry-After": str(RETRY_AFTER_SECONDS)},
}


def body(detail: str, code: str, fields: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """The JSON body of an error."""
    answer: dict[str, Any] = {"detail": detail, "code": code}
    if fields is not None:
        answer["fields"] = fields
    return answer


def handle(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER. None for a bug: Django then answers 500 and logs it."""
    if "request" in context:
        _choose_renderer(**context)
        _say_what_is_wanted(exc, **context)
    if isinstance(exc, Http404):
        exc = drf.NotFound("There is nothing here. Check the path.")
    elif isinstance(exc, PermissionDenied):
        exc = drf.PermissionDenied()
    elif isinstance(exc, drf.Throttled):
        exc = account_errors.TooManyRequests(getattr(exc, "wait", None) or 1)
    request = context["request"]._request if "request" in context else None
    answer = domain_answer(exc, request)
    if answer is not None:
        status, content, headers = answer
        return Response(content, status=status, headers=headers)
    response = exception_handler(exc, context)
    if response is not None and isinstance(exc, drf.APIException):
        response.data = _drf_body(exc)
    return response


def _say_what_is_wanted(exc: Exception, *, request: Request, view: APIView, **_: Any) -> None:
    """Say what to send: DRF only names what was sent, or ignores an unreadable header."""
    if isinstance(exc, drf.UnsupportedMediaType):
        wanted = next((each.media_type for each in view.get_parsers()), None)
        exc.detail = drf.ErrorDetail(f"Send the body as {wanted}.", exc.default_code)
    elif isinstance(exc, drf.NotAuthenticated) and request.headers.get("Authorization", "").strip():
        exc.detail = drf.ErrorDetail(_WRONG_SCHEME, exc.default_code)


def domain_answer(
    exc: BaseException, request: HttpRequest | None = None
) -> tuple[int, dict[str, Any], dict[str, str]] | None:
    """Status, body and headers for an error of ours or of the database; None for any other.

    The failure is kept on the request, and logged in one line at its end.
    """
    if isinstance(exc, ValidationError):
        fields = exc.message_dict if hasattr(exc, "error_dict") else {"__all__": exc.messages}
        return 400, body(_sentence(fields), "invalid", fields), {}
    if isinstance(exc, SuspiciousOperation):
        return 400, body(SUSPICIOUS, "bad_request"), {}
    if isinstance(exc, DataError | IntegrityError):
        return _refused_by_the_database(exc)
    if isinstance(exc, ProtectedError | RestrictedError):
        detail = "Other records refer to this one. Remove or change them first."
        return 409, body(detail, "in_use"), {}
    if isinstance(exc.__cause__, pg.QueryCanceled | pg.LockNotAvailable):
        _note(request, "database too slow", exc)
        exc = errors.TookTooLong()
    if isinstance(exc, OperationalError | InterfaceError):
        tenant = tenancy.peek()
        refusal = None if tenant is None else registry.refusal_after_loss(tenant)
        if refusal is None:
            # The server's message is for the log: it names hosts, databases and roles.
            _note(request, "database unavailable", exc)
        exc = refusal or errors.ServerUnavailable()
    if isinstance(exc, InternalError) and (tenant := tenancy.peek()) is not None:
        exc = registry.refusal_of_write(tenant, exc) or exc
    if isinstance(exc, RedisError):
        _note(request, "cache unavailable", exc)
        exc = errors.CacheUnavailable()
    if isinstance(exc, TooBusy):
        _note(request, "too busy", exc)
        return 503, body(str(exc), "too_busy"), _HEADERS[503]
    if isinstance(exc, errors.OrganizationError | account_errors.AccountError):
        status = next((_STATUS[kind] for kind in type(exc).__mro__ if kind in _STATUS), None)
        if isinstance(exc, errors.FOR_OPERATORS):
            _note(request, "request failed on our side", exc)
            # Only staff end sessions, and what they asked for is done.
            detail = str(exc) if isinstance(exc, errors.SessionsRemain) else errors.OUR_FAULT
            return 503, body(detail, exc.code), _HEADERS[503]
        if isinstance(exc, account_errors.TooManyRequests):
            return 429, body(str(exc), exc.code), {"Retry-After": str(exc.seconds)}
        if isinstance(exc, errors.IdempotencyKeyInUse):
            return 409, body(str(exc), exc.code), _HEADERS[503]
        if status is not None:
            return status, body(str(exc), exc.code), _HEADERS.get(status, {})
    return None


def _note(request: HttpRequest | None, message: str, exc: BaseException) -> None:
    if request is None:
        logger.error(message, exc_info=exc)
    else:
        tenant = tenancy.peek()
        alias = tenant.alias if tenant else getattr(request, "named_organization", "-")
        request.failure = (message, exc, alias)  # type: ignore[attr-defined]


def log_failure(request: HttpRequest, response: HttpResponseBase) -> None:
    """Log one line for a request that was answered 5xx, with the request's id. Bugs are logged by
    Django."""
    if getattr(response, "_has_been_logged", False):
        return
    message, exc, alias = getattr(request, "failure", (response.reason_phrase, None, "-"))
    facts = {"method": request.method, "path": request.path, "status": response.status_code}
    logger.error(message, exc_info=exc, extra={**facts, "tenant": alias})
    # Django would log it again, outside (django/utils/log.py, log_response).
    response._has_been_logged = True  # type: ignore[attr-defined]


# SQLSTATEs for invalid values that no validation caught.
_OF_A_VALUE = (
    *(pg.NumericValueOutOfRange, pg.StringDataRightTruncation, pg.DatetimeFieldOverflow),
    *(pg.InvalidDatetimeFormat, pg.IntervalFieldOverflow, pg.InvalidTextRepresentation),
    pg.InvalidTimeZoneDisplacementValue,
    *(pg.CharacterNotInRepertoire, pg.UntranslatableCharacter, pg.CheckViolation),
)


def _refused_by_the_database(
    exc: DataError | IntegrityError,
) -> tuple[int, dict[str, Any], dict[str, str]] | None:
    """The answer to a lost race or an invalid value. None for a bug of ours."""
    cause = exc.__cause__
    if isinstance(cause, pg.UniqueViolation | pg.ExclusionViolation):
        if (cause.diag.constraint_name or "").endswith("_pkey"):
            return None  # No request names a new row's key: the sequence is too low.
        detail = "Another record already has this value. Choose another, or reload the list."
        return 409, body(detail, "conflict"), {}
    if isinstance(cause, pg.ForeignKeyViolation):
        detail = "A related record has changed or is gone. Reload and try again."
        return 409, body(detail, "conflict"), {}
    # psycopg's own error, without a SQLSTATE: text with a NUL.
    if isinstance(cause, _OF_A_VALUE) or type(cause) is psycopg.DataError:
        logger.error("invalid value reached the database", exc_info=exc)
        return 400, body("A value is out of range or of the wrong type.", "invalid_value"), {}
    return None


def _choose_renderer(request: Request, view: APIView, **_: Any) -> None:
    """Render the error as a page if the response would have been one, and as JSON otherwise.

    A view's own renderer, for a schema or CSV, would send it under its own type.
    """
    pages = [each for each in view.get_renderers() if isinstance(each, BrowsableAPIRenderer)]
    renderer: BaseRenderer | None = getattr(request, "accepted_renderer", None)
    if renderer is None and pages and prefers_page(request._request):
        renderer = pages[0]
    if isinstance(renderer, BrowsableAPIRenderer):
        if not hasattr(request, "_authenticator"):
            # The login failed: the page would check it again, and raise again.
            request._not_authenticated()  # type: ignore[attr-defined]
    elif renderer is None or renderer.media_type != JSONRenderer.media_type:
        renderer = JSONRenderer()
    request.accepted_renderer = renderer
    request.accepted_media_type = renderer.media_type or ""


def _drf_body(exc: drf.APIException) -> dict[str, Any]:
    if isinstance(exc, drf.ValidationError):
        fields = _fields(exc.detail)
        return body(_sentence(fields), "invalid", fields)
    code = exc.get_codes()
    return body(str(exc.detail), code if isinstance(code, str) else exc.default_code)


def _fields(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """Flatten DRF's nested details: `address.street` for a nested field."""
    if isinstance(detail, dict):
        flat: dict[str, list[str]] = {}
        for key, value in detail.items():
            flat.update(_fields(value, f"{prefix}.{key}" if prefix else str(key)))
        return flat
    if isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        return _fields({str(index): item for index, item in enumerate(detail) if item}, prefix)
    messages = detail if isinstance(detail, list) else [detail]
    return {prefix or "non_field_errors": [str(message) for message in messages]}


def _sentence(fields: dict[str, list[str]]) -> str:
    name, messages = next(iter(fields.items()))
    if name in ("non_field_errors", "__all__"):
        return messages[0]
    return f"{name}: {messages[0]}"
