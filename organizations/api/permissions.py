"""DRF permissions for staff, sign-up and lookup."""

from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from rest_framework.permissions import SAFE_METHODS, AllowAny, BasePermission
from rest_framework.request import Request

from accounts.models import User
from organizations.errors import SignUpClosed
from organizations.models import Staff

if TYPE_CHECKING:
    from rest_framework.views import APIView


class IsStaff(BasePermission):
    """Staff of the platform."""

    message = "Only the platform's staff may do this."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        user = request.user
        return isinstance(user, Staff) and user.is_active and user.is_staff


class StaffMay(IsStaff):
    """Staff with Django's add permission for POST, and view permission otherwise."""

    message = "You need a staff account with permission to do this."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        return super().has_permission(request, view) and self._may(request)

    def _may(self, request: Request) -> bool:
        if request.method == "POST":
            return request.user.has_perm("organizations.add_organization")
        return _may_see(request)


class StaffMayAct(StaffMay):
    """Staff with the permission of the view's action, such as `suspend_organization`; for its
    state, those who may view organizations."""

    _named: ClassVar[dict[str, str]] = {"trash": "delete"}

    def has_permission(self, request: Request, view: "APIView") -> bool:
        action: str | None = getattr(view, "action", None)
        self._act = self._named.get(action or "", action)
        return super().has_permission(request, view)

    def _may(self, request: Request) -> bool:
        if request.method in SAFE_METHODS:
            return _may_see(request)
        return request.user.has_perm(f"organizations.{self._act}_organization")


class StaffMaySeeBackups(StaffMay):
    """Staff who may view backups, as in the admin."""

    def _may(self, request: Request) -> bool:
        verbs = ("view", "change")
        return any(request.user.has_perm(f"organizations.{each}_backuprun") for each in verbs)


class StaffMaySee(StaffMay):
    """Staff who may view organizations, for any method."""

    def _may(self, request: Request) -> bool:
        return _may_see(request)


def _may_see(request: Request) -> bool:
    """As ModelAdmin.has_view_permission: permission to change includes viewing."""
    return any(
        request.user.has_perm(f"organizations.{verb}_organization") for verb in ("view", "change")
    )


class SignUpIsOpen(AllowAny):
    """Everybody, while ORG_SIGNUP is open."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if settings.ORG_SIGNUP != "open":
            raise SignUpClosed
        return True


class MayLookUp(AllowAny):
    """Everybody; with ORG_PUBLIC_LOOKUP off, staff and the organization's own users."""

    message = "Log in to look up an organization."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if settings.ORG_PUBLIC_LOOKUP != "off" or isinstance(request.user, User):
            return True
        return StaffMaySee().has_permission(request, view)
