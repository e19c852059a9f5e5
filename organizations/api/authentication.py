"""DRF authentication of staff by their Django admin session."""

from typing import Any

from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request

from organizations.tenancy import trail


class StaffSessionAuthentication(SessionAuthentication):
    """A staff session of Django admin; unsafe methods need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found: tuple[Any, Any] | None = super().authenticate(request)
        if found is not None:
            trail.identify("staff", found[0].pk)
        return found
