"""Test URLs: views of a team that checks no value before it writes it."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from rest_framework import serializers
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ModelViewSet

from accounts.models import LoginSession, User
from organizations import tenancy
from orgmgmt.urls import handler400, handler403, handler404, handler500
from orgmgmt.urls import urlpatterns as project_urlpatterns


class PersonSerializer(serializers.ModelSerializer[User]):
    """Does not know the unique column beside the address."""

    email = serializers.CharField()

    class Meta:
        model = User
        fields = ("id", "email", "password", "created_at")


class PersonViewSet(ModelViewSet[User]):
    queryset = User.objects.all()
    serializer_class = PersonSerializer


class LoginSerializer(serializers.ModelSerializer[LoginSession]):
    user_id = serializers.IntegerField()

    class Meta:
        model = LoginSession
        fields = ("id", "user_id", "kind", "expires_at")


class LoginViewSet(ModelViewSet[LoginSession]):
    queryset = LoginSession.objects.order_by("expires_at")
    serializer_class = LoginSerializer


def run(request: HttpRequest) -> HttpResponse:
    """Run one statement with a value from the request."""
    with tenancy.connection().cursor() as cursor:
        cursor.execute(request.GET["statement"], [request.GET.get("value")])
    return HttpResponse("done")


__all__ = ("handler400", "handler403", "handler404", "handler500")
router = SimpleRouter()
router.register("people", PersonViewSet, basename="people")
router.register("logins", LoginViewSet, basename="logins")
urlpatterns: list[Any] = [
    path("test/", include(router.urls)),
    path("test/run/", run),
    *project_urlpatterns,
]
