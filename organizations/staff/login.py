"""Django admin's login page, with rate limits and login back-off."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse

from accounts import limits
from accounts.errors import TooManyRequests


class StaffLoginForm(AdminAuthenticationForm):
    """Django's own; `refused` is set if the attempt exceeded a limit."""

    refused: TooManyRequests | None = None

    def clean(self) -> dict[str, Any]:
        username = self.cleaned_data.get("username")
        if self.request is None or not (username and self.cleaned_data.get("password")):
            return super().clean()
        try:
            with limits.staff_login(self.request, username=username):
                return super().clean()
        except TooManyRequests as error:
            self.refused = error
            raise ValidationError(str(error), code=error.code) from error


class StaffSite(AdminSite):
    """Django's own, which answers 429 to too many logins."""

    login_form = StaffLoginForm

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().login(request, extra_context)
        form = (getattr(response, "context_data", None) or {}).get("form")
        if isinstance(form, StaffLoginForm) and form.refused:
            response.status_code = 429
            response["Retry-After"] = str(form.refused.seconds)
        return response
