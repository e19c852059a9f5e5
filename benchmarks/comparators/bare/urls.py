"""One view: an organization by its name, by one indexed query, with nothing validated."""

from typing import ClassVar

from django.db import models
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class BareOrganization(models.Model):
    """What the answer holds."""

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


urlpatterns = [path("org/get", LookUpView.as_view())]
