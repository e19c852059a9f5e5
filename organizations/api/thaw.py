"""API and page to thaw an archived organization by a mailed link."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import limits
from accounts.api.fields import StrictCharField
from accounts.errors import AccountError, TooManyRequests
from organizations.background import archives
from organizations.errors import UNAVAILABLE, OrganizationError

from . import examples
from .serializers import NameInput


class ThawInput(serializers.Serializer[Any]):
    """The link's token."""

    token = StrictCharField(max_length=archives.MAX_LENGTH)


class ThawLinkOutput(serializers.Serializer[Any]):
    """The same answer for every name."""

    detail = serializers.CharField()


class ThawOutput(serializers.Serializer[Any]):
    """The state of a thaw."""

    state = serializers.ChoiceField(choices=["none", "waiting", "running", "done", "failed"])
    status_url = serializers.CharField(required=False, help_text="Only in the 202 response.")


class TokenForm(forms.Form):
    """The link's token, in a hidden field."""

    token = forms.CharField(max_length=archives.MAX_LENGTH, widget=forms.HiddenInput)


class _OpenView(GenericAPIView[Any]):
    """Needs no login: the link is the credential."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()


class ThawLinkView(_OpenView):
    """Request a link, by the organization's name."""

    serializer_class = NameInput
    error_statuses = (429,)

    @extend_schema(
        operation_id="org_thaw_link",
        summary="Request a link that brings an archived organization back",
        description="It is mailed to the organization's first admin. The answer is the same for "
        "every name.",
        responses={202: ThawLinkOutput},
        examples=examples.THAW_LINK,
        tags=["organizations"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        archives.ask_link(request._request, name=data.validated_data["organization_name"])
        return Response({"detail": archives.LINK_ASKED}, status=status.HTTP_202_ACCEPTED)


class ThawView(_OpenView):
    """Bring the organization back with the link's token."""

    serializer_class = ThawInput
    error_statuses = (409, 429)

    @extend_schema(
        operation_id="org_thaw",
        summary="Bring an archived organization back by a mailed link",
        description="A worker does it: `status_url` returns its state.",
        responses={202: ThawOutput},
        examples=examples.THAW,
        tags=["organizations"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        token = data.validated_data["token"]
        job = archives.use_link(request._request, token=token)
        url = reverse("thaw-status", kwargs={"token": token})
        headers = {"Location": url, "Cache-Control": "no-store"}
        body = {"state": job.state, "status_url": url}
        return Response(body, status=status.HTTP_202_ACCEPTED, headers=headers)


class ThawStatusView(_OpenView):
    """The state of a thaw, for whoever has the link."""

    serializer_class = ThawOutput
    error_statuses = (400, 429)

    @extend_schema(
        operation_id="org_thaw_status",
        summary="State of a thaw by a mailed link",
        responses={200: ThawOutput},
        examples=examples.THAW_STATE,
        tags=["organizations"],
        auth=[],
    )
    def get(self, request: Request, token: str) -> Response:
        limits.take("LOOKUP", limits.client_key(request._request))
        job = archives.newest("thaw", archives.read(token).organization)
        return Response({"state": job.state}, headers={"Cache-Control": "no-store"})


@method_decorator([csrf_protect, never_cache], "dispatch")
class ThawPage(View):
    """The page of the mailed link. Opening it changes nothing: mail programs open links too."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        response["Referrer-Policy"] = "strict-origin"
        return response

    def get(self, request: HttpRequest) -> HttpResponse:
        token = request.GET.get("token", "")[: archives.MAX_LENGTH]
        try:
            archives.look(request, token=token)
        except (AccountError, OrganizationError) as error:
            return self._refused(request, error)
        return self._page(request, TokenForm(initial={"token": token}))

    def post(self, request: HttpRequest) -> HttpResponse:
        token = request.POST.get("token", "")[: archives.MAX_LENGTH]
        try:
            archives.use_link(request, token=token)
        except UNAVAILABLE:
            raise  # Answered 503, as everywhere.
        except (AccountError, OrganizationError) as error:
            return self._refused(request, error)
        return self._page(request, None)

    def _page(self, request: HttpRequest, form: TokenForm | None) -> HttpResponse:
        context = {
            "form": form,
            "heading": "Bring your organization back",
            "button": "Bring it back",
            "done": "It is being brought back. This can take a while; then log in as before.",
        }
        return render(request, "accounts/link.html", context)

    def _refused(self, request: HttpRequest, error: Exception) -> HttpResponse:
        context = {"heading": "Bring your organization back", "refusal": str(error)}
        is_limit = isinstance(error, TooManyRequests)
        response = render(request, "accounts/link.html", context, status=429 if is_limit else 400)
        if isinstance(error, TooManyRequests):
            response["Retry-After"] = str(error.seconds)
        return response
