"""DRF throttle classes. The counting is in accounts/limits.py."""

from typing import TYPE_CHECKING

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts import limits
from accounts.models import User
from organizations import tenancy

if TYPE_CHECKING:
    from rest_framework.views import APIView


class MemberThrottle(BaseThrottle):
    """THROTTLE_MEMBER requests for each user of each organization.

    The organization is part of the key: primary keys repeat across organizations.
    """

    def allow_request(self, request: Request, view: "APIView") -> bool:
        if isinstance(request.user, User):
            limits.take("MEMBER", tenancy.get().key, request.user.pk)
        return True


class OrganizationThrottle(BaseThrottle):
    """THROTTLE_ORGANIZATION requests for all users of an organization together."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        if isinstance(request.user, User):
            limits.take("ORGANIZATION", tenancy.get().key)
        return True


class _AddressThrottle(BaseThrottle):
    """A limit per client address."""

    name: str

    def allow_request(self, request: Request, view: "APIView") -> bool:
        if request.method not in ("HEAD", "OPTIONS"):
            limits.take(self.name, limits.client_key(request._request))
        return True


class SignUpThrottle(_AddressThrottle):
    name = "SIGNUP"


class LookupThrottle(_AddressThrottle):
    name = "LOOKUP"


class RefreshThrottle(_AddressThrottle):
    name = "REFRESH"
