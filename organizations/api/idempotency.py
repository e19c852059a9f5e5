"""Idempotency-Key: a repeated request gets the first one's answer, and its act is done once.

The act's own commit marks the key as used, so a process that dies earlier has done nothing. A later
repeat does not act again, so it undoes nothing decided since: it ends remaining sessions, and
answers. Of two at once the second cannot mark the key, and changes nothing.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.db import IntegrityError
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from organizations.errors import (
    IdempotencyKeyInUse,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    OrganizationExists,
    OrganizationNotFound,
    WrongState,
)
from organizations.models import Organization, StoredAnswer

HEADER = "Idempotency-Key"
_MAX_LENGTH = 255
PARAMETER = OpenApiParameter(
    name=HEADER,
    location=OpenApiParameter.HEADER,
    required=False,
    type={"type": "string", "minLength": 1, "maxLength": _MAX_LENGTH, "pattern": "^[ -~]+$"},
    description="A key of your choice, such as a UUID. A repeat with the same key and body within "
    "24 hours gets the first answer, and the act is done once. With another path or body it gets "
    "422, and 409 while the first request is running.",
)


@dataclass(frozen=True)
class _Key:
    """The digests of a key, with its person, and of the request that it was sent with."""

    digest: str
    request_digest: str

    def mark(self, organization: Organization) -> None:
        """Mark it as used, in the act's commit. Raises IdempotencyKeyInUse if another one did."""
        try:
            StoredAnswer.objects.create(
                digest=self.digest,
                request_digest=self.request_digest,
                organization_id=organization.pk,
            )
        except IntegrityError as error:
            raise IdempotencyKeyInUse from error


class Repeatable(ABC):
    """A view whose acts can be repeated. It passes `mark` on to the act."""

    key: _Key | None = None

    def mark(self, organization: Organization) -> None:
        """What the act on this organization calls in its commit."""
        if self.key is not None:
            self.key.mark(organization)

    @abstractmethod
    def finish(self, organization: Organization) -> Response:
        """Finish an act that was committed, and answer."""


def idempotent(view: Callable[..., Response]) -> Callable[..., Response]:
    """Wrap a staff POST that does one act. Without the header it is called unchanged.

    Only a success is stored: a refusal changed nothing, and is judged again. The answer must not
    contain a secret, and is deleted with the organization.
    """

    @wraps(view)
    def answered(self: Repeatable, request: Request, **kwargs: Any) -> Response:
        given = request.headers.get(HEADER)
        if given is None:
            return view(self, request, **kwargs)
        if not 1 <= len(given) <= _MAX_LENGTH or not (given.isascii() and given.isprintable()):
            raise IdempotencyKeyInvalid
        key = _Key(
            _digest(request.user.pk, given),
            _digest(given, request.method, request.path.rstrip("/"), _sent(request)),
        )
        StoredAnswer.objects.expired().filter(pk=key.digest).delete()
        stored = _stored(key)
        if stored is None:
            self.key = key
            try:
                answer = view(self, request, **kwargs)
            except (WrongState, OrganizationExists) as error:
                if _stored(key) is None:
                    raise
                raise IdempotencyKeyInUse from error
        else:
            rows = Organization.objects.live().select_related("server")
            organization = rows.filter(pk=stored.organization_id or 0).first()
            if organization is None:
                raise OrganizationNotFound
            if stored.body is not None:
                return Response(stored.body, status=stored.status)
            answer = self.finish(organization)
        # Not if its organization was deleted just now: that set the status.
        unanswered = StoredAnswer.objects.filter(pk=key.digest, status=None)
        unanswered.update(status=answer.status_code, body=dict(answer.data))
        return answer

    return answered


def _stored(key: _Key) -> StoredAnswer | None:
    """The key's row, once its act was committed. Raises IdempotencyKeyReused."""
    stored: StoredAnswer | None = StoredAnswer.objects.filter(pk=key.digest).first()
    if stored is not None and stored.request_digest != key.request_digest:
        raise IdempotencyKeyReused
    return stored


def _sent(request: Request) -> Any:
    """The body. Raises as reading it does."""
    data: Any = request.data
    return dict(data.lists()) if hasattr(data, "lists") else data


def _digest(*parts: Any) -> str:
    """SHA-256 of the parts. With the key among them, which is not stored, nobody guesses a body."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
