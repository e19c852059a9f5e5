"""Test client for isolation attempts: requests through the whole middleware, in this process."""

import itertools
import warnings
from functools import cache
from typing import Any

from django.conf import settings
from django.http.request import validate_host
from django.test import Client
from django.test.client import ClientHandler

# From the network for documentation, so that no throttle locks anybody out.
_addresses = (f"2001:db8::{number:x}" for number in itertools.count(1))


def served_host(slug: str = "") -> str:
    """A host of this installation that names no organization; with a slug, that one's host."""
    allowed: list[str] = settings.ALLOWED_HOSTS or ["localhost"]
    base: str = settings.ORG_BASE_DOMAIN
    candidates = [host.removeprefix("*").lstrip(".") or "localhost" for host in allowed]
    for host in candidates:
        if not base or not host.endswith(f".{base}"):
            return host
    own = f"{slug}.{base}"
    return own if slug and validate_host(own, allowed) else candidates[0]


@cache
def _handler(checks_csrf: bool, middleware: tuple[str, ...]) -> ClientHandler:
    """Shared by all visitors: loading the middleware takes longer than most requests."""
    handler = ClientHandler(checks_csrf)
    with warnings.catch_warnings():
        # WhiteNoise's warning without collectstatic: static files do not matter here.
        warnings.simplefilter("ignore")
        handler.load_middleware()
    return handler


class Visitor(Client):
    """A client with a different address for each request.

    Errors become responses, as in production. checks_csrf: like a browser's requests.
    """

    def __init__(self, *, host: str = "", checks_csrf: bool = False) -> None:
        super().__init__(enforce_csrf_checks=checks_csrf, raise_request_exception=False)
        self.handler = _handler(checks_csrf, tuple(settings.MIDDLEWARE))
        self.defaults["SERVER_NAME"] = host or served_host()
        if header := settings.SECURE_PROXY_SSL_HEADER:
            self.defaults[header[0]] = header[1]

    def generic(self, *args: Any, **kwargs: Any) -> Any:
        """Send it, by https if this installation redirects to https."""
        address = next(_addresses)
        kwargs["REMOTE_ADDR"] = address
        if settings.TRUSTED_PROXY_HOPS:
            kwargs["HTTP_X_FORWARDED_FOR"] = ", ".join([address] * settings.TRUSTED_PROXY_HOPS)
        kwargs["secure"] = kwargs.get("secure", False) or settings.SECURE_SSL_REDIRECT
        return super().generic(*args, **kwargs)
