"""API endpoints for staff's acts on one organization: suspend, restore, delete and others."""

from collections.abc import Callable
from functools import partial
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from organizations import lifecycle
from organizations.background import clones, restores
from organizations.models import Organization
from organizations.postgres.fence import fence

from . import examples, serializers
from .idempotency import PARAMETER, Repeatable, idempotent
from .permissions import StaffMayAct

# `trash` is POST …/delete/: a method `delete` would answer DELETE.
ACTS = ("suspend", "resume", "rename", "restore", "clone", "trash", "undelete")
_ANSWER: dict[str, Any] = {
    "responses": {200: serializers.OrganizationStaffOutput},
    "parameters": [PARAMETER],
    "tags": ["staff"],
}


class Acts(Repeatable, GenericViewSet[Organization]):
    """One action for each act, with a Django permission of its own: `suspend_organization`, ….

    Each answers with the organization as staff see it; one that is a job, with how far it is.
    """

    @extend_schema(
        operation_id="organizations_suspend",
        summary="Suspend an organization (staff)",
        description="Blocks all access at once, and ends running queries. Migrations and backups "
        "still run; the organization's mails wait until it is resumed.",
        request=serializers.SuspendInput,
        examples=examples.SUSPEND,
        **_ANSWER,
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayAct])
    @idempotent
    def suspend(self, request: Request, id_or_slug: str) -> Response:
        return _answer(self._do(request, lifecycle.suspend_organization))

    @extend_schema(
        operation_id="organizations_resume",
        summary="Resume a suspended organization (staff)",
        request=None,
        examples=examples.STAFF,
        **_ANSWER,
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayAct])
    @idempotent
    def resume(self, request: Request, id_or_slug: str) -> Response:
        return _answer(self._do(request, lifecycle.resume_organization))

    @extend_schema(
        operation_id="organizations_rename",
        summary="Rename an organization (staff)",
        description="Changes name and slug; the database stays where it is, and tokens stay valid. "
        "The old name leads to the organization for 30 days by default, and nobody else "
        "gets it meanwhile.",
        request=serializers.RenameInput,
        examples=examples.RENAME,
        **_ANSWER,
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayAct])
    @idempotent
    def rename(self, request: Request, id_or_slug: str) -> Response:
        return _answer(self._do(request, lifecycle.rename_organization))

    @extend_schema(
        operation_id="organizations_delete",
        summary="Delete an organization (staff)",
        description="Ends all access at once, and keeps the database aside for 30 days by default: "
        "until `kept_until` it can be undeleted. Then it is dropped. Nobody else gets the name "
        "meanwhile, unless `free_name` is true.",
        request=serializers.DeleteInput,
        examples=examples.DELETE,
        **_ANSWER,
    )
    @action(
        detail=True,
        methods=["post"],
        url_path="delete",
        url_name="delete",
        permission_classes=[StaffMayAct],
    )
    @idempotent
    def trash(self, request: Request, id_or_slug: str) -> Response:
        return _answer(self._do(request, lifecycle.delete_organization))

    @extend_schema(
        operation_id="organizations_undelete",
        summary="Bring a deleted organization back (staff)",
        description="Accounts, data and files come back as they were, while it is kept. Every "
        "login is ended, and mailed links are void. `name` gives it another name, which it needs "
        "if somebody else has its own by now.",
        request=serializers.UndeleteInput,
        examples=examples.UNDELETE,
        **_ANSWER,
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayAct])
    @idempotent
    def undelete(self, request: Request, id_or_slug: str) -> Response:
        return _answer(self._do(request, lifecycle.undelete_organization))

    @extend_schema(
        operation_id="organizations_restore",
        summary="Restore an organization from a backup, or undo that (staff)",
        description="A worker does it; GET says how far it is. The organization is served as ever "
        "until the switch, then answered 503 for a moment. All log-ins and mailed links are void. "
        "The database of before is kept for days, and `undo` switches back to it. With `beside` "
        "nothing is switched: a new organization is made, read-only, which its people can look at "
        "with the passwords of then. It ends after 7 days by default.",
        request=serializers.RestoreInput,
        responses={202: serializers.RestoreOutput},
        examples=examples.RESTORE,
        parameters=[PARAMETER],
        tags=["staff"],
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayAct])
    @idempotent
    def restore(self, request: Request, id_or_slug: str) -> Response:
        organization = self._do(request, restores.order)
        return _ordered(organization)

    @extend_schema(
        operation_id="organizations_restore_state",
        summary="State of an organization's newest restore (staff)",
        responses={200: serializers.RestoreOutput},
        examples=examples.RESTORED,
        tags=["staff"],
    )
    @restore.mapping.get
    def restore_state(self, request: Request, id_or_slug: str) -> Response:
        return Response(_newest(self.get_object()))

    @extend_schema(
        operation_id="organizations_clone",
        summary="Clone an organization (staff)",
        description="A new organization with its data and files of one moment. Nobody is logged in "
        "to it, and it sends no mail; unless it is exact, addresses and passwords are replaced. It "
        "is a job of a worker: GET says how far it is.",
        request=serializers.CloneInput,
        examples=examples.CLONE,
        responses={202: serializers.CloneOutput},
        parameters=[PARAMETER],
        tags=["staff"],
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayAct])
    @idempotent
    def clone(self, request: Request, id_or_slug: str) -> Response:
        return _cloning(self._do(request, clones.ask), 202)

    @extend_schema(
        operation_id="organizations_clone_state",
        summary="How far the newest clone of an organization is (staff)",
        examples=examples.CLONE_STATE,
        responses={200: serializers.CloneOutput},
        tags=["staff"],
    )
    @clone.mapping.get
    def clone_state(self, request: Request, id_or_slug: str) -> Response:
        return _cloning(self.get_object(), 200)

    def _do(self, request: Request, act: Callable[..., object]) -> Organization:
        """Do it with what the body says, if the action has one."""
        data: dict[str, Any] = {}
        if self.action != "resume":
            given = self.get_serializer(data=request.data)
            given.is_valid(raise_exception=True)
            data = given.validated_data
        organization = self.get_object()
        act(organization, **data, mark=partial(self.mark, organization))
        return organization

    def finish(self, organization: Organization) -> Response:
        if self.action == "restore":
            return _ordered(organization)
        if self.action == "clone":
            return _cloning(organization, 202)  # The commit enqueued it.
        fence(organization)
        return _answer(organization)


def _answer(organization: Organization) -> Response:
    organization.refresh_from_db()
    # A plain dict: the browsable API would fill its form from the serializer of `.data`.
    return Response(dict(serializers.OrganizationStaffOutput(organization).data))


def _ordered(organization: Organization) -> Response:
    return Response(_newest(organization), status=status.HTTP_202_ACCEPTED)


def _newest(organization: Organization) -> dict[str, Any]:
    return dict(serializers.RestoreOutput(restores.newest(organization)).data)


def _cloning(organization: Organization, status: int) -> Response:
    newest = clones.newest(organization)
    return Response(dict(serializers.CloneOutput(newest).data), status=status)
