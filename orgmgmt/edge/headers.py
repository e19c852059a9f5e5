"""Security headers and Content-Security-Policy of every response.

Our own middleware and not django-csp: one policy for pages, one for everything else, and a nonce
that a template asks for. docs/decisions/0011-csp.md says more.
"""

import secrets
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

_FEATURES = (
    *("accelerometer", "autoplay", "browsing-topics", "camera", "display-capture"),
    *("encrypted-media", "fullscreen", "geolocation", "gyroscope", "hid", "magnetometer"),
    *("microphone", "midi", "payment", "picture-in-picture", "publickey-credentials-get"),
    *("screen-wake-lock", "serial", "usb", "xr-spatial-tracking"),
)
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # For embedding (an image, a script). Requests allowed by CORS_ALLOWED_ORIGINS use another mode,
    # which this header does not affect.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _FEATURES),
}
# For responses other than pages: JSON, CSV, files. If shown as a page, nothing in it runs.
NOTHING = "default-src 'none'; frame-ancestors 'none'"
_PAGE = {
    "default-src": ("'none'",),
    "script-src": ("'self'",),
    "style-src": ("'self'",),
    "img-src": ("'self'", "data:"),
    "font-src": ("'self'",),
    "connect-src": ("'self'",),
    "form-action": ("'self'",),
    "base-uri": ("'none'",),
    "frame-ancestors": ("'none'",),
}


class Policy:
    """The Content-Security-Policy of one response, with its view's and template's additions."""

    def __init__(self) -> None:
        self._nonce = ""
        self._more: dict[str, tuple[str, ...]] = {}

    @property
    def nonce(self) -> str:
        """The nonce for a template's inline <script> and <style>."""
        self._nonce = self._nonce or secrets.token_urlsafe(16)
        return self._nonce

    def allow(self, directive: str, *sources: str) -> None:
        """Allow more sources for this page."""
        self._more[directive] = (*self._more.get(directive, ()), *sources)

    @property
    def style_attributes(self) -> str:
        """Allow `style="…"` attributes, for third-party templates that use them."""
        self.allow("style-src-attr", "'unsafe-inline'")
        return ""

    def header(self) -> str:
        """The header's value."""
        directives = dict(_PAGE)
        for directive, sources in self._more.items():
            directives[directive] = (*directives.get(directive, ()), *sources)
        if self._nonce:
            for directive in ("script-src", "style-src"):
                directives[directive] = (*directives[directive], f"'nonce-{self._nonce}'")
        return "; ".join(f"{name} {' '.join(sources)}" for name, sources in directives.items())


def _transport_security() -> str:
    parts = [f"max-age={settings.SECURE_HSTS_SECONDS}"]
    parts += ["includeSubDomains"] * settings.SECURE_HSTS_INCLUDE_SUBDOMAINS
    parts += ["preload"] * settings.SECURE_HSTS_PRELOAD
    return "; ".join(parts)


def policy_of(request: HttpRequest) -> Policy:
    """The request's policy, to add to; `request.csp` in templates."""
    policy: Policy = request.csp  # type: ignore[attr-defined]
    return policy


class SecurityHeadersMiddleware:
    """Adds the headers to every response. The outermost middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.csp = Policy()  # type: ignore[attr-defined]
        response = self.get_response(request)
        for name, value in ALWAYS.items():
            # A page with a secret in its URL sets a stricter policy itself.
            if name != "Referrer-Policy" or name not in response:
                response[name] = value
        if request.is_secure() and settings.SECURE_HSTS_SECONDS:
            # Django's SecurityMiddleware does not see responses from middleware outside it.
            response["Strict-Transport-Security"] = _transport_security()
        page = response.get("Content-Type", "").startswith(("text/html", "application/xhtml"))
        response["Content-Security-Policy"] = policy_of(request).header() if page else NOTHING
        return response
