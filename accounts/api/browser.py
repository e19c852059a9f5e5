"""Login and logout pages of the browsable API. They set and delete one organization's cookie."""

from contextlib import suppress
from typing import Any

from django import forms
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import rotate_token
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from accounts import services, sessions, tokens
from accounts.errors import AccountError, TooManyRequests
from accounts.logins import log_in, tenant_of_credential
from accounts.models import MAX_EMAIL_LENGTH, LoginSession
from organizations import tenancy
from organizations.errors import UNAVAILABLE, OrganizationError
from organizations.tenancy.tenant import MAX_NAME_LENGTH


class LoginForm(forms.Form):
    """Organization, e-mail and password."""

    organization = forms.CharField(max_length=MAX_NAME_LENGTH)
    email = forms.CharField(
        label="E-mail",
        max_length=MAX_EMAIL_LENGTH,
        widget=forms.EmailInput(attrs={"autocomplete": "username"}),
    )
    password = forms.CharField(
        strip=False,
        max_length=services.MAX_PASSWORD_LENGTH,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


@method_decorator([sensitive_post_parameters("password"), csrf_protect, never_cache], "dispatch")
class LoginView(View):
    """Asks for organization, e-mail and password, then redirects to `?next=`."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._page(request, LoginForm(), status=200)

    def post(self, request: HttpRequest) -> HttpResponse:
        form = LoginForm(request.POST)
        if not form.is_valid():
            return self._page(request, form, status=400)
        try:
            login = log_in(request, kind=LoginSession.Kind.BROWSER, **form.cleaned_data)
        except TooManyRequests as error:
            form.add_error(None, str(error))
            page = self._page(request, form, status=429)
            page["Retry-After"] = str(error.seconds)
            return page
        except UNAVAILABLE:
            raise  # Answered 503, as everywhere.
        except (AccountError, OrganizationError) as error:
            form.add_error(None, str(error))
            return self._page(request, form, status=403)
        # A form open in another tab was made for the previous login.
        rotate_token(request)
        response = HttpResponseRedirect(_next_page(request))
        tokens.set_cookie(response, login.session, login.tenant)
        return response

    def _page(self, request: HttpRequest, form: LoginForm, *, status: int) -> HttpResponse:
        context = {"form": form, "next": _next_page(request)}
        return render(request, "accounts/login.html", context, status=status)


def _next_page(request: HttpRequest) -> str:
    """Where to go after the login: a page of this site, or the list of users."""
    wanted: Any = request.POST.get("next") or request.GET.get("next") or ""
    if url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        return str(wanted)
    return reverse("users-list")


@require_POST
@csrf_protect
@never_cache
def log_out(request: HttpRequest) -> HttpResponse:
    """End the browser's session, and delete its cookie."""
    credential = getattr(request, "credential", None)
    if isinstance(credential, DatabaseError | tenancy.TooBusy):
        # The login may still be valid. Raise, so that the cookie is not deleted while it continues.
        raise credential
    if isinstance(credential, tokens.Credential):
        # The session has already ended.
        with (
            suppress(AccountError, OrganizationError),
            tenancy.override(tenant_of_credential(request, credential)),
        ):
            sessions.end(sessions.of(credential))
    response = HttpResponseRedirect(reverse("rest_framework:login"))
    tokens.forget_cookie(response)
    return response
