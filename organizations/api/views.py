"""API endpoints for organizations: sign up, look up, own organization, staff's list."""

from contextlib import suppress
from typing import Any, cast

from django.conf import settings
from django.shortcuts import get_object_or_404
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from accounts import mails
from accounts.api.first_edition import FirstEditionView
from accounts.api.permissions import IsMember
from accounts.api.throttling import LookupThrottle, SignUpThrottle
from organizations import lifecycle, tenancy
from organizations.errors import OrganizationNotFound, SignUpClosed
from organizations.models import FormerName, Organization, OrganizationQuerySet
from organizations.validators import SignUp

from . import examples, serializers, sign_ups
from .acts import ACTS
from .authentication import StaffSessionAuthentication
from .backups import JOBS, Backups
from .permissions import MayLookUp, SignUpIsOpen, StaffMay, StaffMaySee


class CreateOrganizationView(FirstEditionView):
    """Sign-up, if ORG_SIGNUP is open."""

    permission_classes = (SignUpIsOpen,)
    throttle_classes = (SignUpThrottle,)
    serializer_class = serializers.SignUpInput
    error_statuses = (403, 409, 429)

    @extend_schema(
        operation_id="org_create",
        summary="Sign up: create an organization with its own database",
        parameters=[sign_ups.PREFER],
        responses={201: serializers.FirstEditionOrganizationOutput, 202: sign_ups.ACCEPTED},
        examples=examples.CREATE,
        tags=["organizations"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        organization = _sign_up(self, request)
        if isinstance(organization, Response):
            return organization
        return Response(
            serializers.FirstEditionOrganizationOutput(organization).data,
            status=status.HTTP_201_CREATED,
        )


class GetOrganizationView(FirstEditionView):
    """Lookup by name: public, unless ORG_PUBLIC_LOOKUP is off. With `masked`, strangers see the
    first admin's address masked."""

    permission_classes = (MayLookUp,)
    throttle_classes = (LookupThrottle,)
    serializer_class = serializers.NameInput
    error_statuses = (401, 403, 404, 429)

    def get_authenticators(self) -> list[BaseAuthentication]:
        """None for public lookup, so that a stale token does not fail it."""
        if settings.ORG_PUBLIC_LOOKUP == "on":
            return []
        if settings.ORG_PUBLIC_LOOKUP == "masked":
            # A valid login has already activated its organization.
            return [StaffSessionAuthentication()]
        return [kind() for kind in GenericAPIView.authentication_classes]

    def perform_authentication(self, request: Request) -> None:
        """With `masked`, an invalid login counts as none."""
        if settings.ORG_PUBLIC_LOOKUP != "masked":
            super().perform_authentication(request)

    @extend_schema(
        operation_id="org_get",
        summary="Get an organization by name",
        description="An installation can mask the first admin's address as `a***@company.com`; the "
        "organization's users and staff always see it in full.",
        responses={200: serializers.FirstEditionOrganizationOutput},
        examples=examples.GET,
        tags=["organizations"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        name = data.validated_data["organization_name"]
        organization = lifecycle.find_organization(name)
        tenant = tenancy.peek()
        if settings.ORG_PUBLIC_LOOKUP == "off" and tenant and tenant != organization.tenant:
            # For users of another organization it does not exist.
            raise OrganizationNotFound(name)
        if (
            settings.ORG_PUBLIC_LOOKUP == "masked"
            and tenant != organization.tenant
            and not self._is_staff(request)
        ):
            return Response(serializers.MaskedOrganizationOutput(organization).data)
        return Response(serializers.FirstEditionOrganizationOutput(organization).data)

    def _is_staff(self, request: Request) -> bool:
        with suppress(APIException):  # For example, an expired CSRF token.
            return StaffMaySee().has_permission(request, self)
        return False


def _sign_up(view: GenericAPIView[Any], request: Request) -> Organization | Response:
    """The new organization, or the 202 response if the client prefers not to wait."""
    data = view.get_serializer(data=request.data)
    data.is_valid(raise_exception=True)
    if sign_ups.wants_async(request):
        return sign_ups.accept(request, SignUp(**data.validated_data))
    organization = lifecycle.create_organization(**data.validated_data).organization
    mails.verify_first_admin(
        mails.base_url(request._request),
        organization_id=organization.pk,
        email=organization.admin_email,
    )
    return organization


class OwnOrganizationView(GenericAPIView[Organization]):
    """The caller's own organization."""

    permission_classes = (IsMember,)
    serializer_class = serializers.OrganizationDetailOutput

    @extend_schema(
        operation_id="organization_retrieve",
        summary="Your organization",
        examples=examples.OWN,
        tags=["organizations"],
    )
    def get(self, request: Request) -> Response:
        organization = get_object_or_404(Organization, pk=tenancy.get().organization_id)
        return Response(self.get_serializer(organization).data)


class OrganizationFilter(filters.FilterSet):
    """`?status=active`."""

    status = filters.ChoiceFilter(choices=Organization.Status.choices)

    class Meta:
        model = Organization
        fields = ("status",)


_INPUTS: dict[str, type[BaseSerializer[Any]]] = {
    "create": serializers.SignUpInput,
    "suspend": serializers.SuspendInput,
    "rename": serializers.RenameInput,
    "clone": serializers.CloneInput,
    "restore": serializers.RestoreInput,
    "trash": serializers.DeleteInput,
    "undelete": serializers.UndeleteInput,
}


@extend_schema_view(
    list=extend_schema(
        operation_id="organizations_list",
        summary="List organizations (staff)",
        examples=examples.STAFF,
        tags=["staff"],
    ),
    retrieve=extend_schema(
        operation_id="organizations_retrieve",
        summary="Get an organization by id or slug (staff)",
        examples=examples.STAFF,
        tags=["staff"],
    ),
    create=extend_schema(
        operation_id="organizations_create",
        summary="Create an organization (staff)",
        request=serializers.SignUpInput,
        parameters=[sign_ups.PREFER],
        responses={201: serializers.OrganizationStaffOutput, 202: sign_ups.ACCEPTED},
        examples=examples.STAFF_CREATE,
        tags=["staff"],
    ),
)
class OrganizationViewSet(Backups, mixins.ListModelMixin, mixins.RetrieveModelMixin):
    """All organizations, for the platform's staff."""

    permission_classes = (StaffMay,)
    queryset = Organization.objects.select_related("server").order_by("id")
    lookup_field = "id_or_slug"
    lookup_value_regex = "[a-z0-9-]+"
    filter_backends = (filters.DjangoFilterBackend, SearchFilter, OrderingFilter)
    filterset_class = OrganizationFilter
    search_fields = ("name", "slug", "admin_email", "database_name")
    ordering_fields = ("id", "name", "slug", "created_at", "status")
    ordering = ("id",)
    conflicting_actions = ("create", *ACTS, *JOBS)
    idempotent_actions = (*ACTS, *JOBS)

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return _INPUTS.get(self.action, serializers.OrganizationStaffOutput)

    def get_object(self) -> Organization:
        """By id if the path is all digits (no slug is), else by the slug of an existing one, or a
        recent former one, except to delete or restore it."""
        id_or_slug: str = self.kwargs["id_or_slug"]
        queryset = cast("OrganizationQuerySet", self.get_queryset())
        if id_or_slug.isdigit():
            return get_object_or_404(queryset, pk=int(id_or_slug))
        existing = queryset.live()
        found = existing.filter(slug=id_or_slug).first()
        if found is not None:
            return found
        former = FormerName.objects.held().filter(slug=id_or_slug)
        if self.action in ("trash", "restore"):
            former = former.none()
        return get_object_or_404(existing.filter(pk__in=former.values("organization_id")[:1]))

    def create(self, request: Request) -> Response:
        if settings.ORG_SIGNUP == "off":
            raise SignUpClosed
        organization = _sign_up(self, request)
        if isinstance(organization, Response):
            return organization
        # A plain dict: the browsable API would fill its form from the serializer of `.data`.
        output = dict(serializers.OrganizationStaffOutput(organization).data)
        return Response(output, status=status.HTTP_201_CREATED)
