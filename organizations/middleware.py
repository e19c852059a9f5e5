"""Enters the organization that a request's credential names, and leaves it again."""

from collections.abc import Callable
from contextlib import ExitStack

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers

from accounts import tokens
from accounts.models import LoginSession

from . import tenancy
from .errors import (
    AccountError,
    InvalidToken,
    OrganizationError,
    OrganizationMismatch,
    OrganizationNotFound,
)
from .tenancy import directory
from .tenancy.http import other_organization

# What may be wrong with a credential, or with resolving it, without being a bug.
_REFUSALS = (AccountError, OrganizationError, tenancy.TooBusy, DatabaseError)


class TenantMiddleware:
    """Reads the bearer token or cookie, checks the organization's status, activates it.

    A credential that is no good activates nothing and is answered by nobody here: what was wrong
    waits on the request, and accounts.authentication raises it where a login is needed.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # A thread serves many requests: nothing of the last one may be left.
        tenancy.reset()
        try:
            with ExitStack() as scope:
                self._enter(request, scope)
                response = self.get_response(request)
                _keep_for_streaming(response)
                _keep_from_caches(request, response)
                _forget_dead_cookie(request, response)
                return response
        finally:
            tenancy.reset()

    def _enter(self, request: HttpRequest, scope: ExitStack) -> None:
        """Set request.credential_kind and request.credential, a Credential or what was wrong."""
        kind, read = _credential_of(request)
        request.credential_kind = kind  # type: ignore[attr-defined]
        request.credential = None  # type: ignore[attr-defined]
        if read is None:
            return
        try:
            credential = read()
            tenant = _tenant_of(credential)
            if source := other_organization(request, tenant):
                raise OrganizationMismatch(source)
            scope.enter_context(tenancy.override(tenant))
            request.credential = credential  # type: ignore[attr-defined]
        except _REFUSALS as error:
            request.credential = error  # type: ignore[attr-defined]


def _credential_of(
    request: HttpRequest,
) -> tuple[LoginSession.Kind | None, Callable[[], tokens.Credential] | None]:
    """Which kind of credential the request carries, and how to read it."""
    scheme, _, raw = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return LoginSession.Kind.TOKEN, lambda: tokens.read_access(raw.strip())
    cookie = request.COOKIES.get(tokens.SESSION_COOKIE)
    if cookie:
        return LoginSession.Kind.BROWSER, lambda: tokens.read_cookie(cookie)
    return None, None


def _tenant_of(credential: tokens.Credential) -> tenancy.Tenant:
    try:
        return directory.get().tenant_by_id(credential.organization_id)
    except OrganizationNotFound as error:
        # A deleted organization's token says no more than a forged one.
        raise InvalidToken from error


def _forget_dead_cookie(request: HttpRequest, response: HttpResponseBase) -> None:
    """A session that has ended must not keep its browser out: of a staff session, say."""
    if (
        response.status_code == 401
        and request.credential_kind == LoginSession.Kind.BROWSER  # type: ignore[attr-defined]
        and isinstance(response, HttpResponse)
    ):
        response.delete_cookie(tokens.SESSION_COOKIE, path=tokens.SESSION_COOKIE_PATH)


def _keep_from_caches(request: HttpRequest, response: HttpResponseBase) -> None:
    """An answer to somebody's credential is nobody else's, whatever caches it on the way."""
    patch_vary_headers(response, ("Authorization", "Cookie"))
    written = request.method not in ("GET", "HEAD", "OPTIONS")  # A login's tokens, say.
    if written or request.credential_kind is not None:  # type: ignore[attr-defined]
        patch_cache_control(response, private=True, no_store=True)


def _keep_for_streaming(response: HttpResponseBase) -> None:
    """A streamed body is produced after this middleware: keep its organization for each step."""
    tenant = tenancy.peek()
    if tenant is None or not isinstance(response, StreamingHttpResponse):
        return
    content = response.streaming_content
    if response.is_async:
        response.streaming_content = tenancy.aiterate(tenant, content)  # type: ignore[arg-type]
    else:
        response.streaming_content = tenancy.iterate(tenant, content)  # type: ignore[arg-type]
