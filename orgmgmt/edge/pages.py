"""Middleware needed only by pages: static files, staff session and user, messages.

API requests with a token, and the paths of the first edition, skip them. They are subclasses
because Django admin's checks look for Django's classes. The CSRF check has no such subclass, since
`check --deploy` looks for Django's own, and it does nothing for an exempt view.
"""

from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware  # type: ignore[import-untyped]

# The first edition's paths, with `/admin/login` without a slash: with one it is a page.
_FIRST_EDITION = frozenset({"/org/create", "/admin/login"})


def is_no_page(request: HttpRequest) -> bool:
    """Whether it is an API request with a token, or for the first edition, which needs no cookie.

    Decided by the path first: Django admin needs a user whatever the headers say.
    """
    path = request.path_info
    if path == "/org/get":
        # Otherwise it needs a login, possibly staff's.
        return bool(settings.ORG_PUBLIC_LOOKUP == "on")
    if path.startswith("/api/v1/"):
        scheme: str = request.META.get("HTTP_AUTHORIZATION", "")[:7]
        return scheme.lower() == "bearer "
    return path in _FIRST_EDITION


class _ForPages:
    get_response: Any

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_no_page(request):
            return self.get_response(request)  # type: ignore[no-any-return]
        return super().__call__(request)  # type: ignore[misc, no-any-return]


class Files(_ForPages, WhiteNoiseMiddleware):  # type: ignore[misc]
    """Static files."""


class Session(_ForPages, SessionMiddleware):
    """Staff sessions."""


class Authentication(_ForPages, AuthenticationMiddleware):
    """`request.user` for staff."""


class Messages(_ForPages, MessageMiddleware):
    """One-time messages on pages."""
