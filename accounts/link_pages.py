"""The pages behind the links of mails, and the one that asks for a mail, for people with a browser.

Opening a link changes nothing: mail programs and virus scanners open links too. The form does.
"""

from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from organizations.errors import (
    AccountError,
    InvalidLink,
    OrganizationError,
    TooManyRequests,
)

from . import link_flows
from .links import MAX_LENGTH, Purpose
from .services import MAX_PASSWORD_LENGTH


class ResetForm(forms.Form):
    """Organization and e-mail."""

    organization = forms.CharField(max_length=255)
    email = forms.CharField(
        label="E-mail", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "username"})
    )


class TokenForm(forms.Form):
    """The link's token, out of sight."""

    token = forms.CharField(max_length=MAX_LENGTH, widget=forms.HiddenInput)


def _new_password(label: str) -> forms.CharField:
    return forms.CharField(
        label=label,
        strip=False,
        max_length=MAX_PASSWORD_LENGTH,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class NewPasswordForm(TokenForm):
    """A new password, twice: nobody sees what they type."""

    new_password = _new_password("New password")
    again = _new_password("The same again")

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if "again" in data and data.get("new_password") != data["again"]:
            self.add_error("again", "This is not the same password.")
        return data


@method_decorator([sensitive_post_parameters(), csrf_protect, never_cache], "dispatch")
class _Page(View):
    """A form with one button, and a sentence when it is done."""

    form_class: ClassVar[type[forms.Form]]
    heading: ClassVar[str]
    button: ClassVar[str]
    done: ClassVar[str]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        # The token in the address goes nowhere. Not `no-referrer`, with which a browser posts the
        # form as from the origin `null`, which the CSRF check refuses.
        response["Referrer-Policy"] = "strict-origin"
        return response

    def get(self, request: HttpRequest) -> HttpResponse:
        initial = {"token": request.GET.get("token", "")[:MAX_LENGTH]}
        return self._page(request, self.form_class(initial=initial), status=200)

    def post(self, request: HttpRequest) -> HttpResponse:
        form = self.form_class(request.POST)
        status, retry_after = 400, 0
        if form.is_valid():
            try:
                self.act(request, form.cleaned_data)
                return self._page(request, None, status=200)
            except ValidationError as error:
                form.add_error(None, error)
            except (AccountError, OrganizationError) as error:
                if refusal := self.refused(request, error):
                    return refusal
                form.add_error(None, str(error))
                status, retry_after = self.status_of(error)
        response = self._page(request, form, status=status)
        if retry_after:
            response["Retry-After"] = str(retry_after)
        return response

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        """What the form is for."""
        raise NotImplementedError

    def refused(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The page for an error that no other try with this form can mend; else None."""
        return None

    def status_of(self, error: Exception) -> tuple[int, int]:
        """The page's status, and in how many seconds to come again; 0 where that is no help."""
        if isinstance(error, TooManyRequests):
            return 429, error.seconds
        return (400 if isinstance(error, InvalidLink) else 403), 0

    def _page(self, request: HttpRequest, form: forms.Form | None, *, status: int) -> HttpResponse:
        context = {
            "form": form,
            "heading": self.heading,
            "button": self.button,
            "done": self.done,
        }
        return render(request, "accounts/link.html", context, status=status)


class _LinkPage(_Page):
    """Where a link leads. One that is no good is refused before anything is typed, with what to do
    instead."""

    purpose: ClassVar[Purpose]
    again: ClassVar[str]

    def get(self, request: HttpRequest) -> HttpResponse:
        try:
            link_flows.look(request, token=request.GET.get("token", ""), purpose=self.purpose)
        except (AccountError, OrganizationError) as error:
            return self._refuse(request, error)
        return super().get(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        token = request.POST.get("token", "")
        if not 0 < len(token) <= MAX_LENGTH:
            return self._refuse(request, InvalidLink())
        return super().post(request)

    def refused(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return self._refuse(request, error) if isinstance(error, InvalidLink) else None

    def again_url(self) -> str:
        """Where another link is asked for."""
        raise NotImplementedError

    def _refuse(self, request: HttpRequest, error: Exception) -> HttpResponse:
        status, retry_after = self.status_of(error)
        context = {"heading": self.heading, "refusal": str(error)}
        if isinstance(error, InvalidLink):
            context |= {"again": self.again, "again_url": self.again_url()}
        response = render(request, "accounts/link.html", context, status=status)
        if retry_after:
            response["Retry-After"] = str(retry_after)
        return response


class PasswordResetPage(_Page):
    """Asks for organization and e-mail; the answer is one for every address."""

    form_class = ResetForm
    heading = "A new password"
    button = "Send me a link"
    done = link_flows.RESET_REQUESTED

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        link_flows.request_reset(request, organization=data["organization"], email=data["email"])


class PasswordResetConfirmPage(_LinkPage):
    """Where the link of a reset leads."""

    form_class = NewPasswordForm
    purpose = Purpose.RESET
    again = "Ask for another link"
    heading = "Choose a new password"
    button = "Set the password"
    done = "Your password is set, and you are logged out everywhere. Log in with the new one."

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        link_flows.reset_password(request, token=data["token"], new_password=data["new_password"])

    def again_url(self) -> str:
        return reverse("password-reset")


class EmailVerifyPage(_LinkPage):
    """Where the link of a verification leads."""

    form_class = TokenForm
    purpose = Purpose.VERIFICATION
    again = "Log in to ask for another link"
    heading = "Confirm your e-mail address"
    button = "Confirm"
    done = "Your e-mail address is confirmed."

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        link_flows.verify_email(request, token=data["token"])

    def again_url(self) -> str:
        query = urlencode({"next": reverse("me-email-verification")})
        return f"{reverse('rest_framework:login')}?{query}"
