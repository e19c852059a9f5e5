"""Who may do what with organizations."""

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.request import Request

from accounts.models import User

from .errors import SignUpClosed
from .models import Staff

if TYPE_CHECKING:
    from rest_framework.views import APIView


class IsStaff(BasePermission):
    """Staff of the platform, and no user of an organization."""

    message = "Only the platform's staff may do this."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        user = request.user
        return isinstance(user, Staff) and user.is_active and user.is_staff


class SignUpIsOpen(AllowAny):
    """Everybody, while ORG_SIGNUP is open."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if settings.ORG_SIGNUP != "open":
            raise SignUpClosed
        return True


class MayLookUp(AllowAny):
    """Everybody; with ORG_PUBLIC_LOOKUP off staff, and the organization's own people."""

    message = "Log in to look an organization up."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if settings.ORG_PUBLIC_LOOKUP != "off" or isinstance(request.user, User):
            return True
        return IsStaff().has_permission(request, view)
