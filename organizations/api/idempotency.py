"""Idempotency-Key: a repeated request gets the first one's answer, and its act is done once.

While an act runs, its process holds a session lock on the master, which ends with the process. So
a repeat of a request whose process was killed does the act again, which each act allows, and no key
is locked for longer than its process lives.
"""

import hashlib
import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import ValidationError
from django.http import Http404
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from organizations.errors import (
    FOR_OPERATORS,
    UNAVAILABLE,
    IdempotencyKeyInUse,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    OrganizationError,
)
from organizations.models import StoredAnswer
from organizations.postgres.sessions import open_session

HEADER = "Idempotency-Key"
_MAX_LENGTH = 255
PARAMETER = OpenApiParameter(
    name=HEADER,
    location=OpenApiParameter.HEADER,
    required=False,
    type={"type": "string", "minLength": 1, "maxLength": _MAX_LENGTH, "pattern": "^[ -~]+$"},
    description="A key of your choice, such as a UUID. A repeat with the same key and body within "
    "24 hours gets the first answer, and the act is done once. With another path or body it gets "
    "422, and 409 while the first request runs.",
)

# These changed nothing.
_REFUSALS = (OrganizationError, ValidationError, APIException, Http404)
_MAY_BE_HALF_DONE = FOR_OPERATORS + UNAVAILABLE


class Repeatable:
    """A view whose requests can be repeated.

    is_second_try: an earlier try with this key may have done the act, and was not answered.
    """

    is_second_try = False


def idempotent(view: Callable[..., Response]) -> Callable[..., Response]:
    """Wrap a staff's POST that does one act. Without the header it is called as it is.

    Only a success is stored: a refusal changed nothing, and is worked out anew. The answer must not
    contain a secret. Its `id` is the organization's, with which it is deleted.
    """

    @wraps(view)
    def answered(self: Repeatable, request: Request, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return view(self, request, **kwargs)
        if not 1 <= len(key) <= _MAX_LENGTH or not (key.isascii() and key.isprintable()):
            raise IdempotencyKeyInvalid
        digest = _digest(request.user.pk, key)
        request_digest = _digest(key, request.method, request.path.rstrip("/"), _sent(request))
        with open_session() as session:
            # No organization's name has this key.
            if not session.try_lock(f"\x00idempotency:{digest}"):
                raise IdempotencyKeyInUse
            stored, is_new = StoredAnswer.objects.get_or_create(
                digest=digest, defaults={"request_digest": request_digest}
            )
            if stored.request_digest != request_digest:
                raise IdempotencyKeyReused
            if stored.status is not None:
                return Response(stored.body, status=stored.status)
            self.is_second_try = not is_new
            try:
                answer = view(self, request, **kwargs)
            except _REFUSALS as error:
                if not isinstance(error, _MAY_BE_HALF_DONE):
                    stored.delete()
                raise
            stored.status, stored.body = answer.status_code, dict(answer.data)
            stored.organization_id = stored.body.get("id")
            stored.save()
            return answer

    return answered


def _sent(request: Request) -> Any:
    """The body. Raises as reading it does."""
    data: Any = request.data
    return dict(data.lists()) if hasattr(data, "lists") else data


def _digest(*parts: Any) -> str:
    """SHA-256 of the parts. With the key among them, which is not stored, nobody guesses a body."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
