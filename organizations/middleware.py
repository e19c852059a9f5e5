"""TenantMiddleware: activates the organization of the request's credential for the request."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.cache import patch_cache_control, patch_vary_headers

from accounts import tokens
from accounts.errors import AccountError
from accounts.logins import logged_in
from accounts.models import LoginSession

from . import tenancy
from .errors import OrganizationError
from .tenancy import trail

# Errors of a credential or of resolving it that are no bugs.
_REFUSALS = (AccountError, OrganizationError, tenancy.TooBusy, DatabaseError)

# Names of paths that use no login: a password, link or refresh token in the body says who it is, or
# it does not matter.
_WITHOUT_LOGIN = frozenset(
    {"root", "health", "ready", "schema", "docs", "redoc", "security-txt", "not-found"}
    | {"org-create", "sign-up-status", "admin-login", "rest_framework:login", "token"}
    | {"token-refresh", "password-reset", "password-reset-confirm", "email-verify"}
    | {"auth-password-reset", "auth-password-reset-confirm", "auth-email-verify"}
)
# Here the view does everything: a refresh token in the body may say which login ends.
_LOGOUT = frozenset({"logout", "rest_framework:logout"})


class TenantMiddleware:
    """Activates the organization that the bearer token or cookie names, if its login is valid.

    It sets on the request `credential_kind`; `credential`, a Credential or its error; and `login`,
    the LoginSession with its user, or None. An invalid credential activates nothing. Its error is
    raised later: by accounts.api.authentication if the view needs a login, by EdgeMiddleware if a
    view without DRF's authentication queries a tenant model.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
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
        kind, read = _credential_of(request)
        request.credential_kind = kind  # type: ignore[attr-defined]
        request.credential = None  # type: ignore[attr-defined]
        request.login = None  # type: ignore[attr-defined]
        if read is None:
            return
        name = _name_of(request.path_info, getattr(request, "urlconf", settings.ROOT_URLCONF))
        if _takes_no_login(name):
            return
        try:
            credential = read()
            if name not in _LOGOUT:
                session = scope.enter_context(logged_in(request, credential))
                request.login = session  # type: ignore[attr-defined]
                trail.identify("user", session.user_id)
            request.credential = credential  # type: ignore[attr-defined]
        except _REFUSALS as error:
            request.credential = error  # type: ignore[attr-defined]


def _takes_no_login(name: str) -> bool:
    if name == "org-get":
        return bool(settings.ORG_PUBLIC_LOOKUP == "on")
    return name in _WITHOUT_LOGIN or name.startswith("admin:")


@lru_cache(maxsize=1_000)
def _name_of(path: str, urlconf: str) -> str:
    """The URL name of this path, with namespace. Cached, since Django resolves it again."""
    try:
        return resolve(path, urlconf).view_name
    except Resolver404:
        return "not-found"


def _credential_of(
    request: HttpRequest,
) -> tuple[LoginSession.Kind | None, Callable[[], tokens.Credential] | None]:
    """The kind of the request's credential, and how to read it."""
    scheme, _, raw = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return LoginSession.Kind.TOKEN, lambda: tokens.read_access(raw.strip())
    cookie = request.COOKIES.get(settings.ORG_SESSION_COOKIE_NAME)
    if cookie and not request.path_info.startswith("/admin/"):
        return LoginSession.Kind.BROWSER, lambda: tokens.read_cookie(cookie)
    return None, None


def _forget_dead_cookie(request: HttpRequest, response: HttpResponseBase) -> None:
    """Delete the cookie of an ended session, which would block other logins, such as staff's."""
    if (
        response.status_code == 401
        and request.credential_kind == LoginSession.Kind.BROWSER  # type: ignore[attr-defined]
        and isinstance(response, HttpResponse)
    ):
        tokens.forget_cookie(response)


def _keep_from_caches(request: HttpRequest, response: HttpResponseBase) -> None:
    """Keep responses to a credential out of shared caches."""
    patch_vary_headers(response, ("Authorization", "Cookie"))
    written = request.method not in ("GET", "HEAD", "OPTIONS")  # Such as a login's tokens.
    if written or request.credential_kind is not None:  # type: ignore[attr-defined]
        patch_cache_control(response, private=True, no_store=True)


def _keep_for_streaming(response: HttpResponseBase) -> None:
    """Activate the organization for each step of a streamed body, which is produced later."""
    tenant = tenancy.peek()
    if tenant is None or not isinstance(response, StreamingHttpResponse):
        return
    content = response.streaming_content
    if response.is_async:
        response.streaming_content = tenancy.aiterate(tenant, content)  # type: ignore[arg-type]
    else:
        response.streaming_content = tenancy.iterate(tenant, content)  # type: ignore[arg-type]
