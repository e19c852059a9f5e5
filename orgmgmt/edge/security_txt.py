"""Serves /.well-known/security.txt (RFC 9116): where to report a vulnerability."""

from datetime import timedelta

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views import View

from . import handlers

# RFC 9116 advises less than a year. Renewed with each response.
_GOOD_FOR = timedelta(days=180)


class SecurityTxtView(View):
    """SECURITY_CONTACT in the standard format; 404 if unset."""

    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest) -> HttpResponse:
        if not settings.SECURITY_CONTACT:
            return handlers.not_found(request)
        expires = (timezone.now() + _GOOD_FOR).replace(microsecond=0)
        lines = [
            *(f"Contact: {contact}" for contact in settings.SECURITY_CONTACT),
            f"Expires: {expires.strftime('%Y-%m-%dT%H:%M:%SZ')}",
            "Preferred-Languages: en",
            f"Canonical: {request.build_absolute_uri(request.path)}",
        ]
        return HttpResponse("\n".join(lines) + "\n", content_type="text/plain; charset=utf-8")
