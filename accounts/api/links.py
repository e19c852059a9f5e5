"""API endpoints for password reset and e-mail verification."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import limits, mails
from accounts.link_tokens import MAX_LENGTH
from accounts.links import flows
from accounts.models import MAX_EMAIL_LENGTH, User
from accounts.validators import check_new_password
from organizations import tenancy
from organizations.tenancy.tenant import MAX_NAME_LENGTH

from . import examples
from .fields import PasswordField, StrictCharField
from .permissions import IsMember


class ResetInput(serializers.Serializer[Any]):
    """Whose password to reset. An invalid address gets the same answer as an unknown one."""

    organization = StrictCharField(max_length=MAX_NAME_LENGTH)
    email = StrictCharField(max_length=MAX_EMAIL_LENGTH)


class ResetConfirmInput(serializers.Serializer[Any]):
    """The link's token, and the new password."""

    token = StrictCharField(max_length=MAX_LENGTH)
    new_password = PasswordField()

    def validate_new_password(self, password: str) -> str:
        # Checked again once the token says whose it is.
        check_new_password(password, user=User())
        return password


class LinkInput(serializers.Serializer[Any]):
    """The link's token."""

    token = StrictCharField(max_length=MAX_LENGTH)


class DetailOutput(serializers.Serializer[Any]):
    """A message."""

    detail = serializers.CharField()


class _OpenView(GenericAPIView[Any]):
    """Needs no login: the link is the credential."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()


class PasswordResetView(_OpenView):
    """Request a password-reset link, by organization and e-mail."""

    serializer_class = ResetInput
    error_statuses = (403, 404, 429)

    @extend_schema(
        operation_id="password_reset",
        summary="Request a password reset",
        description="Answers the same, and as fast, whether or not the address has an account. "
        "The mailed link works once.",
        responses={202: DetailOutput},
        examples=examples.PASSWORD_RESET,
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        flows.request_reset(request._request, **data.validated_data)
        return Response({"detail": flows.RESET_REQUESTED}, status=status.HTTP_202_ACCEPTED)


class PasswordResetConfirmView(_OpenView):
    """Set a new password with the link's token."""

    serializer_class = ResetConfirmInput
    error_statuses = (403, 429)

    @extend_schema(
        operation_id="password_reset_confirm",
        summary="Set a new password with a link",
        description="Uses up the link and logs the user out everywhere. If the password is refused "
        "(400 with `fields`), the link stays valid.",
        responses={204: None},
        examples=examples.PASSWORD_RESET_CONFIRM,
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        flows.reset_password(request._request, **data.validated_data)
        return Response(status=status.HTTP_204_NO_CONTENT)


class EmailVerifyView(_OpenView):
    """Verify an e-mail address with the link's token."""

    serializer_class = LinkInput
    error_statuses = (403, 429)

    @extend_schema(
        operation_id="email_verify",
        summary="Verify an e-mail address with a link",
        responses={204: None},
        examples=examples.EMAIL_VERIFY,
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        flows.verify_email(request._request, **data.validated_data)
        return Response(status=status.HTTP_204_NO_CONTENT)


class MyEmailVerificationView(GenericAPIView[Any]):
    """Send a new verification link to the caller's address, unless it is already verified."""

    permission_classes = (IsMember,)

    @extend_schema(
        operation_id="me_email_verification",
        summary="Request a link to verify your e-mail address",
        request=None,
        responses={202: DetailOutput},
        examples=examples.MY_EMAIL_VERIFICATION,
        tags=["me"],
    )
    def post(self, request: Request) -> Response:
        user: User = request.user  # type: ignore[assignment]
        limits.mail_to_oneself(
            request._request,
            organization_id=tenancy.get().organization_id,
            user_id=user.pk,
            email=user.email,
        )
        mails.request_verification(request._request, user)
        detail = "We have sent an e-mail with a link, unless your address is already confirmed."
        return Response({"detail": detail}, status=status.HTTP_202_ACCEPTED)
