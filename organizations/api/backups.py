"""API endpoints for staff who ask for a backup of one organization, its verification or an export.

Each is a job, so the answer is its state. And the list of an organization's backups.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.pagination import NewestFirst
from organizations.background import asking
from organizations.models import BackupRun, Organization

from . import examples, serializers
from .acts import Acts
from .declaring import act
from .permissions import StaffMaySeeBackups

JOBS = ("backup", "verify", "export")
_ANSWER: dict[str, Any] = {
    "request": None,
    "responses": {202: serializers.AskedOutput},
    "examples": examples.ASKED,
}


class Backups(Acts):
    """One action for each job, with a Django permission of its own: `backup_organization`, …."""

    @act(
        operation_id="organizations_backup",
        summary="Back up an organization (staff)",
        description="A worker makes the backup: `…/backups/` lists it. One that waits, such as the "
        "nightly one, is brought forward.",
        **_ANSWER,
    )
    def backup(self, request: Request, id_or_slug: str) -> Response:
        return self._ask(asking.back_up)

    @act(
        operation_id="organizations_verify",
        summary="Verify an organization's newest good backup (staff)",
        description="A worker restores it into a throw-away database, compares, and drops that. "
        "409 if there is none.",
        **_ANSWER,
    )
    def verify(self, request: Request, id_or_slug: str) -> Response:
        return self._ask(asking.verify)

    @act(
        operation_id="organizations_export",
        summary="Ask for an organization's export for its admins (staff)",
        description="The same as if one of its admins asked for it: only they can download it, for "
        "a day. While the organization is suspended, the job waits.",
        **_ANSWER,
    )
    def export(self, request: Request, id_or_slug: str) -> Response:
        return self._ask(asking.export)

    @extend_schema(
        operation_id="organizations_backups",
        summary="List an organization's backups (staff)",
        description="Newest first, also those that failed, and after its deletion.",
        responses={200: serializers.BackupRunOutput(many=True)},
        examples=examples.BACKUPS,
        tags=["staff"],
    )
    @action(
        detail=True,
        permission_classes=[StaffMaySeeBackups],
        pagination_class=NewestFirst,
        filter_backends=(),
    )
    def backups(self, request: Request, id_or_slug: str) -> Response:
        # Any: by the view's type its pages are of organizations.
        runs: Any = BackupRun.objects.filter(organization_key=self.get_object().key)
        page = self.paginate_queryset(runs)
        shown = serializers.BackupRunOutput(page, many=True).data
        return self.get_paginated_response(shown)

    def _ask(self, ask: Callable[..., None]) -> Response:
        organization = self.get_object()
        ask(organization, mark=partial(self.mark, organization))
        return self._asked(organization)

    def finish(self, organization: Organization) -> Response:
        """What was asked for is enqueued: only say so."""
        if self.action in JOBS:
            return self._asked(organization)
        return super().finish(organization)

    def _asked(self, organization: Organization) -> Response:
        asked = asking.newest(cast("asking.What", self.action), organization)
        body = dict(serializers.AskedOutput(asked).data)
        return Response(body, status=status.HTTP_202_ACCEPTED)
