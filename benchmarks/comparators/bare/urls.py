"""Two views with one indexed query each: an organization by name, one's own account by token."""

from typing import Any, ClassVar

from django.db import models
from django.urls import path
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import JWTAuthentication


class BareOrganization(models.Model):
    """The organization's table."""

    name = models.CharField(max_length=255, unique=True)
    admin_email = models.EmailField(max_length=254)
    created_at = models.DateTimeField()

    objects: ClassVar = models.Manager["BareOrganization"]()

    class Meta:
        app_label = "bare"
        managed = False
        db_table = "organizations"


class LookUpView(APIView):
    """`POST /org/get` with `{"organization_name": …}`."""

    def post(self, request: Request) -> Response:
        organization = BareOrganization.objects.get(name=request.data["organization_name"])
        return Response(
            {
                "id": organization.pk,
                "name": organization.name,
                "admin_email": organization.admin_email,
                "created_at": organization.created_at,
            }
        )


class BareUser(models.Model):
    """The user that simplejwt looks up."""

    email = models.EmailField(max_length=254)
    is_admin = models.BooleanField()
    is_active = models.BooleanField()
    created_at = models.DateTimeField()
    email_verified_at = models.DateTimeField(null=True)
    is_authenticated = True

    objects: ClassVar = models.Manager["BareUser"]()

    class Meta:
        app_label = "bare"
        managed = False
        db_table = "users"


class BareUserOutput(serializers.ModelSerializer[BareUser]):
    """The product's answer."""

    class Meta:
        model = BareUser
        fields = ("id", "email", "is_admin", "is_active", "created_at", "email_verified_at")
        read_only_fields = fields


class TokenAuthentication(JWTAuthentication):
    """simplejwt's own, with another user model."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user_model = BareUser  # type: ignore[assignment]


class MeView(APIView):
    """`GET /api/v1/me/` with a bearer token."""

    authentication_classes = (TokenAuthentication,)
    permission_classes = (IsAuthenticated,)

    def get(self, request: Request) -> Response:
        user: BareUser = request.user  # type: ignore[assignment]
        return Response(BareUserOutput(user).data)


urlpatterns = [path("org/get", LookUpView.as_view()), path("api/v1/me/", MeView.as_view())]
