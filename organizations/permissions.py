"""Who may do what with organizations."""

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from .models import Staff

if TYPE_CHECKING:
    from rest_framework.views import APIView


class IsStaff(BasePermission):
    """Staff of the platform, and no user of an organization."""

    message = "Only the platform's staff may do this."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        user = request.user
        return isinstance(user, Staff) and user.is_active and user.is_staff
