"""API endpoints for staff: back up one organization, verify its backup, export it, list backups.

Each act is a job, so the answer is its state.
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
        description="A worker makes the backup: `…/backups/` lists it. If one is already queued, "
        "such as the nightly one, it is made now.",
        **_ANSWER,
    )
    def backup(self, request: Request, id_or_slug: str) -> Response:
        return self._ask(asking.back_up)

    @act(
        operation_id="organizations_verify",
        summary="Verify an organization's newest good backup (staff)",
        description="A worker restores it into a throw-away database, compares its content, and "
        "drops it. 409 if there is no good backup.",
        **_ANSWER,
    )
    def verify(self, request: Request, id_or_slug: str) -> Response:
        return self._ask(asking.verify)

    @act(
        operation_id="organizations_export",
        summary="Export an organization for its admins (staff)",
        description="As if one of its admins requested it: only they can download it, for a day. "
        "While the organization is suspended, the job waits.",
        **_ANSWER,
    )
    def export(self, request: Request, id_or_slug: str) -> Response:
        return self._ask(asking.export)

    @extend_schema(
        operation_id="organizations_backups",
        summary="List an organization's backups (staff)",
        description="Newest first, including failed ones; also after the organization's deletion.",
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
        """The job is enqueued: answer with its state."""
        if self.action in JOBS:
            return self._asked(organization)
        return super().finish(organization)

    def _asked(self, organization: Organization) -> Response:
        asked = asking.newest(cast("asking.What", self.action), organization)
        body = dict(serializers.AskedOutput(asked).data)
        return Response(body, status=status.HTTP_202_ACCEPTED)
