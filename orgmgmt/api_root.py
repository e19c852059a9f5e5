"""The browsable API's front page."""

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView


class ApiRootView(APIView):
    """Where everything is. Log in as a member of an organization, or as staff, to use it."""

    permission_classes = (AllowAny,)

    def get_view_name(self) -> str:
        return "API v1"

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        names = ("token", "me", "users-list", "organization", "audit", "organizations-list")
        return Response(
            {name.removesuffix("-list"): reverse(name, request=request) for name in names}
        )
