"""API endpoints for an organization's admins to export all that is stored for it."""

from typing import Any

from django.http import FileResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.permissions import IsAdmin, IsMember
from accounts.api.throttling import ExportThrottle
from organizations import tenancy
from organizations.background import exports

from . import examples, serializers


class ExportView(APIView):
    """The newest export of the caller's organization."""

    permission_classes = (IsMember, IsAdmin)
    throttle_classes = (*APIView.throttle_classes, ExportThrottle)
    serializer_class = serializers.ExportOutput

    @extend_schema(
        operation_id="export_retrieve",
        summary="State of your organization's export, and a link to it (admins)",
        responses={200: serializers.ExportOutput},
        examples=examples.EXPORT,
        tags=["organizations"],
    )
    def get(self, request: Request) -> Response:
        return Response(self._body(request, exports.newest()))

    @extend_schema(
        operation_id="export_create",
        summary="Request an export of all that is stored for your organization (admins)",
        description="A ZIP with the rows of each table as JSON lines, the files, the audit trail "
        "and a manifest. It is made in the background, replaces the previous one, and is deleted a "
        "day later. If one is waiting or being made, that one is returned.",
        request=None,
        responses={202: serializers.ExportOutput},
        examples=examples.EXPORT_ASKED,
        tags=["organizations"],
    )
    def post(self, request: Request) -> Response:
        body = self._body(request, exports.ask())
        headers = {"Location": reverse("export")}
        return Response(body, status=status.HTTP_202_ACCEPTED, headers=headers)

    def _body(self, request: Request, export: exports.Export) -> dict[str, Any]:
        if export.state != "ready":
            return {"state": export.state}
        token = exports.link(export, login=request.auth.pk)
        facts = {
            "state": export.state,
            "bytes": export.size_bytes,
            "made_at": export.made_at,
            "expires_at": export.expires_at,
            "url": reverse("export-file", kwargs={"token": token}),
        }
        return dict(serializers.ExportOutput(facts).data)


class ExportFileView(APIView):
    """The export itself."""

    permission_classes = (IsMember, IsAdmin)

    @extend_schema(
        operation_id="export_file",
        summary="Download an export by the link to it (admins)",
        description="Works with the login that the link was given to, until the link expires; else "
        "404.",
        # Client generators know this type as a file, and application/zip not at all.
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
        tags=["organizations"],
    )
    def get(self, request: Request, token: str) -> FileResponse:
        return FileResponse(
            exports.open_file(token, login=request.auth.pk),
            as_attachment=True,
            filename=f"{tenancy.get().slug}.zip",
            content_type="application/octet-stream",
        )
