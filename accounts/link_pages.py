"""The pages behind the links of mails, and the one that asks for a mail, for people with a browser.

Opening a link changes nothing: mail programs and virus scanners open links too. The form does.
"""

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
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
from .links import MAX_LENGTH
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
                form.add_error(None, str(error))
                status, retry_after = self.status_of(error)
        response = self._page(request, form, status=status)
        if retry_after:
            response["Retry-After"] = str(retry_after)
        return response

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        """What the form is for."""
        raise NotImplementedError

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
            "asks": self.form_class is ResetForm,
        }
        return render(request, "accounts/link.html", context, status=status)


class PasswordResetPage(_Page):
    """Asks for organization and e-mail; the answer is one for every address."""

    form_class = ResetForm
    heading = "A new password"
    button = "Send me a link"
    done = link_flows.RESET_REQUESTED

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        link_flows.request_reset(request, organization=data["organization"], email=data["email"])


class PasswordResetConfirmPage(_Page):
    """Where the link of a reset leads."""

    form_class = NewPasswordForm
    heading = "Choose a new password"
    button = "Set the password"
    done = "Your password is set, and you are logged out everywhere. Log in with the new one."

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        link_flows.reset_password(request, token=data["token"], new_password=data["new_password"])


class EmailVerifyPage(_Page):
    """Where the link of a verification leads."""

    form_class = TokenForm
    heading = "Confirm your e-mail address"
    button = "Confirm"
    done = "Your e-mail address is confirmed."

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        link_flows.verify_email(request, token=data["token"])
