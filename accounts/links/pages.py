"""Web pages for password reset and e-mail verification.

Opening a mailed link changes nothing, since mail programs and virus scanners open links too.
Submitting the form does.
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

from accounts.errors import AccountError, InvalidLink, TooManyRequests
from accounts.link_tokens import MAX_LENGTH, Purpose
from accounts.models import MAX_EMAIL_LENGTH
from accounts.services import MAX_PASSWORD_LENGTH
from organizations.errors import UNAVAILABLE, OrganizationError
from organizations.tenancy.tenant import MAX_NAME_LENGTH

from . import flows


class ResetForm(forms.Form):
    """Organization and e-mail."""

    organization = forms.CharField(max_length=MAX_NAME_LENGTH)
    email = forms.CharField(
        label="E-mail",
        max_length=MAX_EMAIL_LENGTH,
        widget=forms.EmailInput(attrs={"autocomplete": "username"}),
    )


class TokenForm(forms.Form):
    """The link's token, in a hidden field."""

    token = forms.CharField(max_length=MAX_LENGTH, widget=forms.HiddenInput)


def _new_password(label: str) -> forms.CharField:
    return forms.CharField(
        label=label,
        strip=False,
        max_length=MAX_PASSWORD_LENGTH,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class NewPasswordForm(TokenForm):
    """A new password, typed twice to catch typos."""

    new_password = _new_password("New password")
    again = _new_password("Repeat password")

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if "again" in data and data.get("new_password") != data["again"]:
            self.add_error("again", "The two passwords do not match.")
        return data


@method_decorator([sensitive_post_parameters(), csrf_protect, never_cache], "dispatch")
class _Page(View):
    """A form with one button, and a success message."""

    form_class: ClassVar[type[forms.Form]]
    heading: ClassVar[str]
    button: ClassVar[str]
    done: ClassVar[str]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        # Hide the token in the URL from other sites. Not `no-referrer`: browsers then post the form
        # with the origin `null`, which the CSRF check refuses.
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
            except UNAVAILABLE:
                raise  # Answered 503, as everywhere.
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
        """Do what the form is for."""
        raise NotImplementedError

    def refused(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The page for an error that resubmitting this form cannot fix; else None."""
        return None

    def status_of(self, error: Exception) -> tuple[int, int]:
        """The status code, and the seconds to wait before a retry (0: a retry does not help)."""
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
    """The page a mailed link opens. An invalid link is refused at once, with what to do instead."""

    purpose: ClassVar[Purpose]
    again: ClassVar[str]

    def get(self, request: HttpRequest) -> HttpResponse:
        try:
            flows.look(request, token=request.GET.get("token", ""), purpose=self.purpose)
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
        """Where to request another link."""
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
    """Asks for organization and e-mail; answers the same for every address."""

    form_class = ResetForm
    heading = "Reset your password"
    button = "Send link"
    done = flows.RESET_REQUESTED

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        flows.request_reset(request, organization=data["organization"], email=data["email"])


class PasswordResetConfirmPage(_LinkPage):
    """The page of a password-reset link."""

    form_class = NewPasswordForm
    purpose = Purpose.RESET
    again = "Request another link"
    heading = "Choose a new password"
    button = "Set password"
    done = "Your password was changed and you are logged out everywhere. Log in again."

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        flows.reset_password(request, token=data["token"], new_password=data["new_password"])

    def again_url(self) -> str:
        return reverse("password-reset")


class EmailVerifyPage(_LinkPage):
    """The page of a verification link."""

    form_class = TokenForm
    purpose = Purpose.VERIFICATION
    again = "Log in to request another link"
    heading = "Confirm your e-mail address"
    button = "Confirm"
    done = "Your e-mail address is confirmed."

    def act(self, request: HttpRequest, data: dict[str, Any]) -> None:
        flows.verify_email(request, token=data["token"])

    def again_url(self) -> str:
        query = urlencode({"next": reverse("me-email-verification")})
        return f"{reverse('rest_framework:login')}?{query}"
