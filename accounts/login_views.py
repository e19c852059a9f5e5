"""Logging in, staying logged in and logging out, with tokens."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from organizations import tenancy
from organizations.errors import (
    AdminRequired,
    InvalidToken,
    OrganizationMismatch,
    OrganizationNotFound,
)
from organizations.tenancy import directory
from organizations.tenancy.http import other_organization

from . import examples, serializers, services, tokens
from .contract import ContractView
from .models import LoginSession, User
from .permissions import IsMember


def log_in(
    request: Request, *, organization: str, email: str, password: str, admins_only: bool = False
) -> tuple[tenancy.Tenant, User]:
    """The tenant and its user. Raises what a login can fail with; runs outside any organization.

    The name in the body decides; a header or host that names another organization is refused.
    """
    tenant = directory.get().tenant_by_name(organization)
    if source := other_organization(request._request, tenant):
        raise OrganizationMismatch(source)
    with tenancy.override(tenant):
        user = services.authenticate(email=email, password=password)
        if admins_only and not user.is_admin:
            raise AdminRequired
        return tenant, user


def token_pair(tenant: tenancy.Tenant, session: LoginSession) -> dict[str, Any]:
    """The tokens of a session, as v1 answers them."""
    access, refresh = tokens.issue(session, tenant)
    return {
        "access": access,
        "refresh": refresh,
        "token_type": "bearer",
        "expires_in": tokens.access_lifetime_seconds(),
    }


def start_token_session(tenant: tenancy.Tenant, user: User) -> dict[str, Any]:
    """A new login's tokens and its user, as v1 answers them."""
    with tenancy.override(tenant):
        session = services.start_session(user, kind=LoginSession.Kind.TOKEN)
    user_output = serializers.LoginUserOutput(user).data
    return {**token_pair(tenant, session), "user": user_output}


class AdminLoginView(ContractView):
    """An admin's login, at the path and in the form that clients of the first edition use."""

    serializer_class = serializers.CredentialsInput
    error_statuses = (401, 403, 404)

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """A browser that comes here wants the page of Django admin, a slash further."""
        return redirect("admin:login")

    @extend_schema(
        operation_id="admin_login",
        summary="Log in as an organization's admin",
        parameters=[OpenApiParameter("organization_name", str, required=True)],
        responses={200: serializers.LoginOutput},
        examples=examples.LOGIN,
        tags=["contract"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        name = serializers.OrganizationNameInput(data=request.query_params)
        name.is_valid(raise_exception=True)
        credentials = self.get_serializer(data=request.data)
        credentials.is_valid(raise_exception=True)
        tenant, user = log_in(
            request,
            organization=name.validated_data["organization_name"],
            admins_only=True,
            **credentials.validated_data,
        )
        answer = start_token_session(tenant, user)
        return Response(
            {
                "access_token": answer["access"],
                "token_type": answer["token_type"],
                "refresh_token": answer["refresh"],
                "expires_in": answer["expires_in"],
                "user": answer["user"],
            }
        )


class TokenView(GenericAPIView[Any]):
    """A login for any active user of an organization."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()
    serializer_class = serializers.TokenInput
    error_statuses = (401, 403, 404)

    @extend_schema(
        operation_id="token_create",
        summary="Log in",
        responses={200: serializers.TokenOutput},
        examples=examples.TOKEN,
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        tenant, user = log_in(request, **data.validated_data)
        return Response(start_token_session(tenant, user))


class TokenRefreshView(GenericAPIView[Any]):
    """A new pair of tokens for a refresh token, which is used up by it."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()
    serializer_class = serializers.RefreshInput
    error_statuses = (401, 403)

    @extend_schema(
        operation_id="token_refresh",
        summary="Rotate a refresh token",
        description="A refresh token is good once. Using one again ends the login it belongs to.",
        responses={200: serializers.TokenPairOutput},
        examples=examples.REFRESH,
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        credential = tokens.read_refresh(data.validated_data["refresh"])
        tenant = tenant_of(request, credential)
        with tenancy.override(tenant):
            session = services.rotate(credential)
        return Response(token_pair(tenant, session))


def tenant_of(request: Request, credential: tokens.Credential) -> tenancy.Tenant:
    """The tenant of a refresh token. Raises InvalidToken for one that is gone."""
    try:
        tenant = directory.get().tenant_by_id(credential.organization_id)
    except OrganizationNotFound as error:
        raise InvalidToken from error
    if source := other_organization(request._request, tenant):
        raise OrganizationMismatch(source)
    return tenant


class LogoutView(GenericAPIView[Any]):
    """Ends the login of the refresh token in the body, or else of the caller's token or cookie."""

    permission_classes = (AllowAny,)
    throttle_classes = ()
    serializer_class = serializers.LogoutInput
    error_statuses = (401, 403)

    def perform_authentication(self, request: Request) -> None:
        """Not yet: a client that logs out by refresh token may send a stale access token along."""

    @extend_schema(
        operation_id="logout",
        summary="Log out",
        description="Ends the login of the refresh token in the body; without one, of the caller.",
        responses={204: None},
        examples=examples.LOGOUT,
        tags=["auth"],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        response = Response(status=status.HTTP_204_NO_CONTENT)
        if raw := data.validated_data.get("refresh"):
            credential = tokens.read_refresh(raw)
            with tenancy.override(tenant_of(request, credential)):
                services.end_session(services.session_of(credential))
            return response
        session = request.auth
        if not isinstance(session, LoginSession):
            raise InvalidToken
        services.end_session(session)
        if session.kind == LoginSession.Kind.BROWSER:
            response.delete_cookie(tokens.SESSION_COOKIE, path=tokens.SESSION_COOKIE_PATH)
        return response


class MyPasswordView(GenericAPIView[Any]):
    """A change of one's own password, which ends every login and begins a new one."""

    permission_classes = (IsMember,)
    serializer_class = serializers.PasswordInput

    @extend_schema(
        operation_id="me_password",
        summary="Change your password",
        description="Every login of yours ends, this one too; the answer holds a new one.",
        responses={200: serializers.TokenOutput},
        examples=examples.PASSWORD,
        tags=["me"],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        user: User = request.user  # type: ignore[assignment]
        services.change_password(user, **data.validated_data)
        return Response(start_token_session(tenancy.get(), user))
