"""API endpoints for the caller's own account and for the organization's users."""

from copy import copy
from typing import Any

import django_filters
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import mixins, status
from rest_framework.exceptions import ValidationError
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet

from accounts import limits, mails, services
from accounts.letters import Kind
from accounts.models import User
from organizations import tenancy

from . import examples, serializers
from .permissions import IsAdmin, IsMember


class MeView(GenericAPIView[User]):
    """The caller's own account."""

    permission_classes = (IsMember,)
    serializer_class = serializers.MeInput
    error_statuses = (409, 429)

    @extend_schema(
        operation_id="me_retrieve",
        summary="Your account",
        responses={200: serializers.UserOutput},
        examples=[examples.USER],
        tags=["me"],
    )
    def get(self, request: Request) -> Response:
        user: User = request.user  # type: ignore[assignment]
        return Response(serializers.UserOutput(user).data)

    @extend_schema(
        operation_id="me_update",
        summary="Change your e-mail address",
        request=serializers.MeInput,
        responses={200: serializers.UserOutput},
        examples=examples.ME,
        tags=["me"],
    )
    def patch(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data, partial=True)
        data.is_valid(raise_exception=True)
        user: User = request.user  # type: ignore[assignment]
        changes = data.validated_data
        current_password = changes.pop("current_password", "")
        if changes.get("email") == user.email:
            # Not written: it may have changed meanwhile, and changing it requires the password.
            del changes["email"]
        if "email" in changes:
            # A stolen token must not take over the account by a link to another address.
            _confirm(request, user, email=changes["email"], current_password=current_password)
        return Response(serializers.UserOutput(_update(request, user, changes)).data)


def _confirm(request: Request, user: User, **given: str) -> None:
    organization_id = tenancy.get().organization_id
    with limits.own_password(request._request, organization_id=organization_id, email=user.email):
        services.check_own_email(user, **given)


def _update(request: Request, user: User, changes: dict[str, Any]) -> User:
    """The changed user. Sends a verification mail to a new address, and change notices to the
    previous one."""
    before = copy(user)
    user = services.update_user(user, **changes)
    if "password" in changes:
        mails.tell_of_change(request._request, before, kind=Kind.NEW_PASSWORD)
    if user.email != before.email:
        mails.tell_of_change(request._request, before, kind=Kind.NEW_ADDRESS)
        mails.verify_beside(request._request, user)
    return user


def _refuse_own(user: User, changes: dict[str, Any]) -> None:
    """Refuse changes to the caller's own password and address. Those need the current password, at
    other paths: a stolen token must not be enough to take over the account."""
    errors = {}
    if "password" in changes:
        errors["password"] = "Change your own password at /api/v1/me/password/."  # noqa: S105
    if changes.get("email", user.email) != user.email:
        errors["email"] = "Change your own address at /api/v1/me/."
    if errors:
        raise ValidationError(errors)


@extend_schema_field(OpenApiTypes.BOOL)
class FlagFilter(django_filters.ChoiceFilter):
    """true, false or nothing; anything else is answered 400. BooleanFilter would ignore it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=(("true", "true"), ("false", "false")), **kwargs)

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        return qs.filter(**{str(self.field_name): value == "true"}) if value else qs


class UserFilter(FilterSet):
    """`?is_admin=true&is_active=false`."""

    is_admin = FlagFilter()
    is_active = FlagFilter()

    class Meta:
        model = User
        fields = ("is_admin", "is_active")


@extend_schema_view(
    list=extend_schema(
        operation_id="users_list",
        summary="List the organization's users",
        responses={200: serializers.UserOutput(many=True)},
        examples=[examples.USER],
        tags=["users"],
    ),
    retrieve=extend_schema(
        operation_id="users_retrieve",
        summary="Get a user",
        responses={200: serializers.UserOutput},
        examples=[examples.USER],
        tags=["users"],
    ),
    create=extend_schema(
        operation_id="users_create",
        summary="Add a user",
        request=serializers.NewUserInput,
        responses={201: serializers.UserOutput},
        examples=examples.NEW_USER,
        tags=["users"],
    ),
    update=extend_schema(
        operation_id="users_update",
        summary="Replace a user",
        request=serializers.UserInput,
        responses={200: serializers.UserOutput},
        examples=examples.CHANGED_USER,
        tags=["users"],
    ),
    partial_update=extend_schema(
        operation_id="users_partial_update",
        summary="Update a user: deactivate, make an admin, set a password",
        request=serializers.UserInput,
        responses={200: serializers.UserOutput},
        examples=examples.CHANGED_USER,
        tags=["users"],
    ),
    destroy=extend_schema(
        operation_id="users_destroy",
        summary="Remove a user",
        responses={204: None},
        tags=["users"],
    ),
)
class UserViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    GenericViewSet[User],
):
    """The organization's users. Admins see and change all; members see themselves.

    The last active admin cannot be removed, demoted or deactivated.
    """

    queryset = User.objects.all()
    lookup_value_regex = "[0-9]+"
    filter_backends = (DjangoFilterBackend, SearchFilter, OrderingFilter)
    filterset_class = UserFilter
    search_fields = ("email",)
    ordering_fields = ("id", "email", "created_at")
    ordering = ("id",)
    conflicting_actions = ("create", "update", "partial_update", "destroy")

    def get_permissions(self) -> list[BasePermission]:
        reads = self.action in ("list", "retrieve", "metadata", None)
        return [IsMember()] if reads else [IsMember(), IsAdmin()]

    def get_queryset(self) -> QuerySet[User]:
        user = self.request.user
        users = User.objects.all()
        if isinstance(user, User) and not user.is_admin:
            return users.filter(pk=user.pk)
        return users

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return {
            "create": serializers.NewUserInput,
            "update": serializers.UserInput,
            "partial_update": serializers.UserInput,
        }.get(self.action, serializers.UserOutput)

    def create(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        user = services.create_user(**data.validated_data)
        mails.verify_beside(request._request, user)
        # A plain dict: the browsable API would fill its form from the serializer of `.data`.
        return Response(dict(serializers.UserOutput(user).data), status=status.HTTP_201_CREATED)

    def update(self, request: Request, pk: str, partial: bool = False) -> Response:
        user = self.get_object()
        data = self.get_serializer(user, data=request.data, partial=partial)
        data.is_valid(raise_exception=True)
        if user.pk == request.user.pk:
            _refuse_own(user, data.validated_data)
        user = _update(request, user, data.validated_data)
        return Response(serializers.UserOutput(user).data)

    def partial_update(self, request: Request, pk: str) -> Response:
        return self.update(request, pk, partial=True)

    def destroy(self, request: Request, pk: str) -> Response:
        services.remove_user(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)
