"""Middleware, authentication and throttles of the plain comparator.

They replace those of the product that need an organization. The product's own code checks the
token's signature, expiry and claims, and one query finds the login and its user, as in the product.
No organization is looked up, entered or left.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from django.db import connections, router
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts import limits, sessions, tokens
from accounts.errors import AccountError
from accounts.models import LoginSession, User
from organizations.tenancy import trail

if TYPE_CHECKING:
    from rest_framework.views import APIView


class TokenMiddleware:
    """Reads the bearer token; an error is kept on the request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.credential = self.read(request)  # type: ignore[attr-defined]
        response = self.get_response(request)
        patch_vary_headers(response, ("Authorization", "Cookie"))
        patch_cache_control(response, private=True, no_store=True)
        return response

    def read(self, request: HttpRequest) -> tokens.Credential | Exception | None:
        """The credential, the error in it, or None without a token."""
        scheme, _, raw = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            return tokens.read_access(raw.strip())
        except AccountError as error:
            return error


class BearerAuthentication(BaseAuthentication):
    """Finds the login that the token names, and its user, with one query."""

    def authenticate(self, request: Request) -> tuple[User, LoginSession] | None:
        found: tokens.Credential | Exception | None = request._request.credential  # type: ignore[attr-defined]
        if found is None:
            return None
        if isinstance(found, Exception):
            raise found
        session = sessions.find(connections[router.db_for_read(LoginSession)], found)
        trail.identify("user", session.user_id)
        return session.user, session

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class MemberThrottle(BaseThrottle):
    """The product's two throttles, without organizations; off, as in the product's runs."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        if isinstance(request.user, User):
            limits.take("MEMBER", request.user.pk)
            limits.take("ORGANIZATION", 0)
        return True
