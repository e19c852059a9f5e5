"""API endpoints for password reset and e-mail verification."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from organizations import tenancy

from . import examples, limits, link_flows, mails
from .fields import PasswordField, StrictCharField
from .links import MAX_LENGTH
from .models import User
from .permissions import IsMember
from .validators import check_new_password


class ResetInput(serializers.Serializer[Any]):
    """Whose password was forgotten. What is no address has no account, and is answered alike."""

    organization = StrictCharField(max_length=255)
    email = StrictCharField(max_length=254)


class ResetConfirmInput(serializers.Serializer[Any]):
    """The link's token, and the new password."""

    token = StrictCharField(max_length=MAX_LENGTH)
    new_password = PasswordField()

    def validate_new_password(self, password: str) -> str:
        # Once more where the token says whose it is.
        check_new_password(password, user=User())
        return password


class LinkInput(serializers.Serializer[Any]):
    """The link's token."""

    token = StrictCharField(max_length=MAX_LENGTH)


class DetailOutput(serializers.Serializer[Any]):
    """A sentence."""

    detail = serializers.CharField()


class _OpenView(GenericAPIView[Any]):
    """Open to strangers: the link is the credential, and a login is no help."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()


class PasswordResetView(_OpenView):
    """Asks for a link, by organization and e-mail."""

    serializer_class = ResetInput
    error_statuses = (403, 404, 429)

    @extend_schema(
        operation_id="password_reset",
        summary="Ask for a new password",
        description="The answer, and the time it takes, is the same for an address that has no "
        "account. The mail's link is good once.",
        responses={202: DetailOutput},
        examples=examples.PASSWORD_RESET,
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        link_flows.request_reset(request._request, **data.validated_data)
        return Response({"detail": link_flows.RESET_REQUESTED}, status=status.HTTP_202_ACCEPTED)


class PasswordResetConfirmView(_OpenView):
    """Takes the link's token and a new password."""

    serializer_class = ResetConfirmInput
    error_statuses = (403, 429)

    @extend_schema(
        operation_id="password_reset_confirm",
        summary="Set a new password by a link",
        description="Uses the link up and ends every login. A password that is refused (400 with "
        "`fields`) leaves the link good.",
        responses={204: None},
        examples=examples.PASSWORD_RESET_CONFIRM,
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        link_flows.reset_password(request._request, **data.validated_data)
        return Response(status=status.HTTP_204_NO_CONTENT)


class EmailVerifyView(_OpenView):
    """Takes the token of the link that was sent to an address."""

    serializer_class = LinkInput
    error_statuses = (403, 429)

    @extend_schema(
        operation_id="email_verify",
        summary="Confirm an address by a link",
        responses={204: None},
        examples=examples.EMAIL_VERIFY,
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        link_flows.verify_email(request._request, **data.validated_data)
        return Response(status=status.HTTP_204_NO_CONTENT)


class MyEmailVerificationView(GenericAPIView[Any]):
    """Sends a new link to the caller's own address, unless it is confirmed already."""

    permission_classes = (IsMember,)

    @extend_schema(
        operation_id="me_email_verification",
        summary="Ask for a link that confirms your address",
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
        detail = "Unless your address is confirmed already, a mail with a link is on its way."
        return Response({"detail": detail}, status=status.HTTP_202_ACCEPTED)
