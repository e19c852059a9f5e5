"""API for asynchronous sign-up: answers 202 and offers a status URL (RFC 7240)."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import limits, mails
from accounts.api.first_edition import FirstEditionView
from organizations.background import sign_ups
from organizations.errors import SignUpUnknown
from organizations.models import Organization
from organizations.validators import SignUp

from . import examples, serializers

_RETRY_AFTER_SECONDS = 2
PREFERENCE = "respond-async"
PREFER = OpenApiParameter(
    name="Prefer",
    location=OpenApiParameter.HEADER,
    required=False,
    type=str,
    description="`respond-async`: answer 202 at once, with a status URL.",
)
ACCEPTED = OpenApiResponse(
    serializers.SignUpStatusOutput,
    description="Accepted, for a request with `Prefer: respond-async`. `Location` is the status "
    "URL.",
)


def wants_async(request: Request) -> bool:
    """Whether the client prefers not to wait (RFC 7240, section 4.1)."""
    preferences = request.headers.get("Prefer", "").split(",")
    return any(each.split(";")[0].strip().lower() == PREFERENCE for each in preferences)


def accept(request: Request, sign_up: SignUp) -> Response:
    """The 202 response. Raises the errors that make a sign-up fail at once."""
    token = sign_ups.accept(sign_up, base_url=mails.base_url(request._request))
    url = reverse("sign-up-status", kwargs={"token": token})
    body = {"state": "waiting", "step": "", "status_url": url}
    headers = {
        "Location": url,
        "Preference-Applied": PREFERENCE,
        "Retry-After": _retry_after(),
        "Cache-Control": "no-store",
    }
    return Response(body, status=status.HTTP_202_ACCEPTED, headers=headers)


def _retry_after() -> str:
    """Long enough that a client that obeys it never hits the rate limit."""
    return str(max(_RETRY_AFTER_SECONDS, limits.pause_seconds("LOOKUP")))


class SignUpStatusView(FirstEditionView):
    """The status of a sign-up, for whoever has the URL. Issues no login."""

    serializer_class = serializers.SignUpStatusOutput
    error_statuses = (404, 429)

    @extend_schema(
        operation_id="sign_up_status",
        summary="Status of a sign-up that was answered 202",
        responses={200: serializers.SignUpStatusOutput},
        examples=examples.SIGN_UP_STATUS,
        tags=["organizations"],
        auth=[],
    )
    def get(self, request: Request, token: str) -> Response:
        try:
            pending = sign_ups.find(token)
        except SignUpUnknown:
            limits.take("LOOKUP", limits.client_key(request._request))
            raise
        # Per sign-up: one address can have many under way, and each was told when to ask again.
        limits.take("LOOKUP", f"sign-up:{pending.pk}")
        body: dict[str, Any] = {"state": pending.state, "step": pending.step}
        headers = {"Cache-Control": "no-store"}
        if pending.state in pending.State.open():
            headers["Retry-After"] = _retry_after()
        elif pending.state == pending.State.FAILED:
            body["error"] = pending.error
        else:
            made = Organization.objects.usable().filter(pk=pending.organization_id or 0).first()
            body["organization"] = made and serializers.FirstEditionOrganizationOutput(made).data
        return Response(body, headers=headers)
