"""API endpoints for staff's acts on one organization: suspend, restore, delete and others."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from organizations import lifecycle
from organizations.background import archives, clones, restores
from organizations.models import Organization
from organizations.postgres.fence import fence

from . import examples, serializers
from .declaring import act
from .idempotency import Repeatable

# `trash` is POST …/delete/: a method `delete` would answer DELETE.
ACTS = ("suspend", "resume", "rename", "restore", "clone", "trash", "undelete", "archive", "thaw")


class Acts(Repeatable, GenericViewSet[Organization]):
    """One action for each act, with a Django permission of its own: `suspend_organization`, ….

    Each answers with the organization as staff see it, or with the state of its job.
    """

    @act(
        operation_id="organizations_suspend",
        summary="Suspend an organization (staff)",
        description="Blocks all access at once, and ends running queries. Migrations and backups "
        "still run; the organization's mails wait until it is resumed.",
        request=serializers.SuspendInput,
        examples=examples.SUSPEND,
    )
    def suspend(self, request: Request, id_or_slug: str) -> Response:
        return _answer(self._do(request, lifecycle.suspend_organization))

    @act(
        operation_id="organizations_resume",
        summary="Resume a suspended organization (staff)",
        request=None,
        examples=examples.STAFF,
    )
    def resume(self, request: Request, id_or_slug: str) -> Response:
        return _answer(self._do(request, lifecycle.resume_organization))

    @act(
        operation_id="organizations_rename",
        summary="Rename an organization (staff)",
        description="Changes name and slug; the database stays where it is, and tokens stay valid. "
        "The old name still finds the organization for 30 days by default, and nobody else can "
        "take it.",
        request=serializers.RenameInput,
        examples=examples.RENAME,
    )
    def rename(self, request: Request, id_or_slug: str) -> Response:
        return _answer(self._do(request, lifecycle.rename_organization))

    @act(
        operation_id="organizations_delete",
        summary="Delete an organization (staff)",
        description="Ends all access at once, and keeps the database aside for 30 days by default: "
        "until `kept_until` it can be undeleted. Then it is dropped. Nobody else can take the name "
        "meanwhile, unless `free_name` is true. A read-only organization (restored beside another "
        "one) is dropped at once, for good.",
        request=serializers.DeleteInput,
        examples=examples.DELETE,
        route={"url_path": "delete", "url_name": "delete"},
    )
    def trash(self, request: Request, id_or_slug: str) -> Response:
        return _answer(self._do(request, lifecycle.delete_organization))

    @act(
        operation_id="organizations_undelete",
        summary="Bring a deleted organization back (staff)",
        description="Accounts, data and files come back as they were, while it is kept. All "
        "logins and mailed links become invalid. `name` gives it another name, which it needs if "
        "its own is taken by now.",
        request=serializers.UndeleteInput,
        examples=examples.UNDELETE,
    )
    def undelete(self, request: Request, id_or_slug: str) -> Response:
        return _answer(self._do(request, lifecycle.undelete_organization))

    @act(
        operation_id="organizations_restore",
        summary="Restore an organization from a backup, or undo a restore (staff)",
        description="A worker does it; GET returns its state. Requests are served until the "
        "switch, then get 503 for a moment. All logins and mailed links become invalid. The "
        "previous database is kept for days, and `undo` switches back to it. With `beside` nothing "
        "is switched: a new, read-only organization is made, to which users log in with the "
        "backup's passwords. It is dropped after 7 days by default.",
        request=serializers.RestoreInput,
        responses={202: serializers.RestoreOutput},
        examples=examples.RESTORE,
    )
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

    @act(
        operation_id="organizations_clone",
        summary="Clone an organization (staff)",
        description="A worker makes a new organization with its data and files at one moment; GET "
        "returns the state. Nobody is logged in to it, and it sends no mail; unless it is exact, "
        "addresses and passwords are replaced.",
        request=serializers.CloneInput,
        examples=examples.CLONE,
        responses={202: serializers.CloneOutput},
    )
    def clone(self, request: Request, id_or_slug: str) -> Response:
        return _cloning(self._do(request, clones.ask), 202)

    @extend_schema(
        operation_id="organizations_clone_state",
        summary="State of an organization's newest clone (staff)",
        examples=examples.CLONE_STATE,
        responses={200: serializers.CloneOutput},
        tags=["staff"],
    )
    @clone.mapping.get
    def clone_state(self, request: Request, id_or_slug: str) -> Response:
        return _cloning(self.get_object(), 200)

    @act(
        operation_id="organizations_archive",
        summary="Archive an organization (staff)",
        description="A worker ends all access, makes a last backup, verifies it by a restore, and "
        "only then drops the database and the files. If something fails before the drop, the "
        "organization is reopened as it was. Its name stays taken. GET returns the state.",
        responses={202: serializers.AskedOutput},
        examples=examples.ASKED,
        request=None,
    )
    def archive(self, request: Request, id_or_slug: str) -> Response:
        return _asked("archive", self._do(request, archives.ask_archive), 202)

    @extend_schema(
        operation_id="organizations_archive_state",
        summary="State of an organization's newest archive (staff)",
        examples=examples.ASKED_STATE,
        responses={200: serializers.AskedOutput},
        tags=["staff"],
    )
    @archive.mapping.get
    def archive_state(self, request: Request, id_or_slug: str) -> Response:
        return _asked("archive", self.get_object(), 200)

    @act(
        operation_id="organizations_thaw",
        summary="Bring an archived organization back (staff)",
        description="A worker makes a new database from its backup: accounts, data and files are "
        "as they were, and so is its status. All logins and mailed links become invalid. GET "
        "returns the state.",
        responses={202: serializers.AskedOutput},
        examples=examples.ASKED,
        request=None,
    )
    def thaw(self, request: Request, id_or_slug: str) -> Response:
        return _asked("thaw", self._do(request, archives.ask_thaw), 202)

    @extend_schema(
        operation_id="organizations_thaw_state",
        summary="State of an organization's newest thaw (staff)",
        examples=examples.ASKED_STATE,
        responses={200: serializers.AskedOutput},
        tags=["staff"],
    )
    @thaw.mapping.get
    def thaw_state(self, request: Request, id_or_slug: str) -> Response:
        return _asked("thaw", self.get_object(), 200)

    def _do(self, request: Request, act: Callable[..., object]) -> Organization:
        """Do it with the body's fields, if the action has any."""
        data: dict[str, Any] = {}
        if self.action not in ("resume", "archive", "thaw"):
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
        if self.action in ("archive", "thaw"):
            return _asked(cast("archives.What", self.action), organization, 202)
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


def _asked(what: archives.What, organization: Organization, status: int) -> Response:
    newest = archives.newest(what, organization)
    return Response(dict(serializers.AskedOutput(newest).data), status=status)
