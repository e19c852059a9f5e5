"""DRF permissions for an organization's members and admins."""

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.models import User

if TYPE_CHECKING:
    from rest_framework.views import APIView


class IsMember(BasePermission):
    """Any active user of the organization."""

    message = "Log in as a user of an organization."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        return isinstance(request.user, User)


class IsAdmin(BasePermission):
    """An admin of the organization."""

    message = "Only the organization's admins may do this."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        return isinstance(request.user, User) and request.user.is_admin
