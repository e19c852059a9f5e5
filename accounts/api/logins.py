"""API endpoints to log in, refresh tokens, log out and change the password."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import limits, mails, services, sessions, tokens
from accounts.errors import InvalidToken
from accounts.letters import Kind
from accounts.logins import Login, log_in, tenant_of_credential
from accounts.models import LoginSession, User
from organizations import tenancy

from . import examples, serializers
from .first_edition import FirstEditionView
from .permissions import IsMember
from .throttling import RefreshThrottle


def token_pair(tenant: tenancy.Tenant, session: LoginSession) -> dict[str, Any]:
    """A session's tokens, in v1's format."""
    access, refresh = tokens.issue(session, tenant)
    return {
        "access": access,
        "refresh": refresh,
        "token_type": "bearer",
        "expires_in": tokens.access_lifetime_seconds(),
    }


def login_answer(login: Login) -> dict[str, Any]:
    """A new login's tokens and user, in v1's format."""
    with tenancy.override(login.tenant):
        user_output = serializers.LoginUserOutput(login.user).data
    return {**token_pair(login.tenant, login.session), "user": user_output}


class AdminLoginView(FirstEditionView):
    """Admin login, at the path and in the format of the first edition."""

    serializer_class = serializers.CredentialsInput
    error_statuses = (401, 403, 404, 429)

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Send browsers to Django admin's login page, which has a trailing slash."""
        return redirect("admin:login")

    @extend_schema(
        operation_id="admin_login",
        summary="Log in as an organization's admin",
        parameters=[OpenApiParameter("organization_name", str, required=True)],
        responses={200: serializers.LoginOutput},
        examples=examples.LOGIN,
        tags=["organizations"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        name = serializers.OrganizationNameInput(data=request.query_params)
        credentials = self.get_serializer(data=request.data)
        if not (name.is_valid() & credentials.is_valid()):
            raise ValidationError({**dict(name.errors), **dict(credentials.errors)})
        login = log_in(
            request._request,
            organization=name.validated_data["organization_name"],
            kind=LoginSession.Kind.TOKEN,
            admins_only=True,
            **credentials.validated_data,
        )
        answer = login_answer(login)
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
    """Log in any active user of an organization."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()
    serializer_class = serializers.TokenInput
    error_statuses = (401, 403, 404, 429)

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
        login = log_in(request._request, kind=LoginSession.Kind.TOKEN, **data.validated_data)
        return Response(login_answer(login))


class TokenRefreshView(GenericAPIView[Any]):
    """Exchange a refresh token for a new pair of tokens."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = (RefreshThrottle,)
    serializer_class = serializers.RefreshInput
    error_statuses = (401, 403, 429)

    @extend_schema(
        operation_id="token_refresh",
        summary="Rotate a refresh token",
        description="A refresh token works once. Using it again ends its login.",
        responses={200: serializers.TokenPairOutput},
        examples=examples.REFRESH,
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        credential = tokens.read_refresh(data.validated_data["refresh"])
        tenant = tenant_of_credential(request._request, credential)
        with tenancy.override(tenant):
            session = sessions.rotate(credential)
        return Response(token_pair(tenant, session))


class LogoutView(GenericAPIView[Any]):
    """End the login of the refresh token in the body, or else of the caller's token or cookie."""

    permission_classes = (AllowAny,)
    throttle_classes = ()
    serializer_class = serializers.LogoutInput
    error_statuses = (401, 403)

    def perform_authentication(self, request: Request) -> None:
        """Does nothing: a client may log out by refresh token and also send an old access token."""

    @extend_schema(
        operation_id="logout",
        summary="Log out",
        description="Ends the login of the refresh token in the body, or else the caller's.",
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
            with tenancy.override(tenant_of_credential(request._request, credential)):
                sessions.end(sessions.of(credential))
            return response
        found = request._request.credential  # type: ignore[attr-defined]
        if not isinstance(found, tokens.Credential):
            raise found or InvalidToken
        with tenancy.override(tenant_of_credential(request._request, found)):
            session: LoginSession = request.auth  # type: ignore[assignment]
            sessions.end(session)
        if session.kind == LoginSession.Kind.BROWSER:
            tokens.forget_cookie(response)
        return response


class MyPasswordView(GenericAPIView[Any]):
    """Change the caller's password, end all logins and start a new one."""

    permission_classes = (IsMember,)
    serializer_class = serializers.PasswordInput

    @extend_schema(
        operation_id="me_password",
        summary="Change your password",
        description="Ends all your logins, including this one. The response has new tokens.",
        responses={200: serializers.TokenOutput},
        examples=examples.PASSWORD,
        tags=["me"],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        user: User = request.user  # type: ignore[assignment]
        tenant = tenancy.get()
        with limits.own_password(
            request._request, organization_id=tenant.organization_id, email=user.email
        ):
            services.change_password(user, **data.validated_data)
        mails.tell_of_change(request._request, user, kind=Kind.NEW_PASSWORD)
        session = sessions.start(user, kind=LoginSession.Kind.TOKEN)
        return Response(login_answer(Login(tenant, user, session)))
