"""Limits on how often one person asks."""

from typing import TYPE_CHECKING

from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from organizations import tenancy

from .models import User

if TYPE_CHECKING:
    from rest_framework.views import APIView


class MemberRateThrottle(SimpleRateThrottle):
    """THROTTLE_MEMBER requests for each user of each organization; no limit where it is unset.

    The key holds the organization too: primary keys repeat across organizations.
    """

    scope = "member"

    def get_cache_key(self, request: Request, view: "APIView") -> str | None:
        if not isinstance(request.user, User):
            return None
        ident = f"{tenancy.get().alias}:{request.user.pk}"
        return self.cache_format % {"scope": self.scope, "ident": ident}
