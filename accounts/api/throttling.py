"""DRF throttle classes. The counting is in accounts/limits.py."""

from typing import TYPE_CHECKING

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts import limits
from accounts.errors import TooManyRequests
from accounts.models import User
from organizations import tenancy

if TYPE_CHECKING:
    from rest_framework.views import APIView


class _Throttle(BaseThrottle):
    """Counts a request against THROTTLE_<name>."""

    name: str
    seconds: float | None = None

    def allow_request(self, request: Request, view: "APIView") -> bool:
        counted_by = self.counted_by(request) if limits.is_on(self.name) else None
        if counted_by is None:
            return True
        try:
            limits.take(self.name, *counted_by)
        except TooManyRequests as error:
            self.seconds = error.seconds
            return False
        return True

    def wait(self) -> float | None:
        return self.seconds

    def counted_by(self, request: Request) -> tuple[str | int, ...] | None:
        """What shares one count; None: the request is not counted."""
        raise NotImplementedError


class MemberThrottle(_Throttle):
    """THROTTLE_MEMBER requests for each user of each organization.

    The organization is part of the key: primary keys repeat across organizations.
    """

    name = "MEMBER"

    def counted_by(self, request: Request) -> tuple[str | int, ...] | None:
        return (tenancy.get().key, request.user.pk) if isinstance(request.user, User) else None


class OrganizationThrottle(_Throttle):
    """THROTTLE_ORGANIZATION requests for all users of an organization together."""

    name = "ORGANIZATION"

    def counted_by(self, request: Request) -> tuple[str | int, ...] | None:
        return (tenancy.get().key,) if isinstance(request.user, User) else None


class ExportThrottle(OrganizationThrottle):
    """THROTTLE_EXPORT exports that an organization's users ask for."""

    name = "EXPORT"

    def counted_by(self, request: Request) -> tuple[str | int, ...] | None:
        return super().counted_by(request) if request.method == "POST" else None


class _AddressThrottle(_Throttle):
    """A limit per client address."""

    def counted_by(self, request: Request) -> tuple[str | int, ...] | None:
        if request.method in ("HEAD", "OPTIONS"):
            return None
        return (limits.client_key(request._request),)


class SignUpThrottle(_AddressThrottle):
    name = "SIGNUP"


class LookupThrottle(_AddressThrottle):
    name = "LOOKUP"


class RefreshThrottle(_AddressThrottle):
    name = "REFRESH"
