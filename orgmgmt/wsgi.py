"""WSGI entry point."""

import os
from contextlib import suppress
from typing import Any

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

from .edge.timeouts import limit_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")


class Request(WSGIRequest):
    """Django's own, but survives a charset that is not a text encoding.

    Django decodes the query string with it at once, before any middleware could refuse it (5.2,
    django/http/request.py, HttpRequest.encoding). EdgeMiddleware then answers 415.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        with suppress(LookupError, UnicodeError):
            super()._set_content_type_params(meta)  # type: ignore[misc]
            return
        self._encoding = None


class Handler(WSGIHandler):
    request_class = Request


django.setup(set_prefix=False)
limit_connections()
application = Handler()
