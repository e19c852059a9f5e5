"""WSGI entry point."""

import os
from contextlib import suppress
from typing import Any

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

from .limits import limit_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")


class Request(WSGIRequest):
    """Django's own, which lives through a charset that names no encoding of text.

    Django decodes the query string with it at once, before any middleware could refuse it (5.2,
    django/http/request.py, HttpRequest.encoding). EdgeMiddleware answers 415 then.
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
