"""Records staff's actions in Django admin in the audit trail.

Django announces staff logins and logouts by signals; our own code uses none.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import DatabaseError, transaction
from django.db.models import Model
from django.http import HttpRequest
from django.template.response import TemplateResponse

from organizations.models import Staff
from organizations.tenancy import trail

from .generic import AnyAdmin
from .login import StaffSite


class PlatformAdminSite(StaffSite):
    """Django admin with rate-limited login, and staff as the audit trail's actor."""

    def has_permission(self, request: HttpRequest) -> bool:
        """Called by every page of the site first."""
        if isinstance(request.user, Staff):
            trail.identify("staff", request.user.pk)
        return super().has_permission(request)

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        with transaction.atomic(using="default"):
            response = super().password_change(request, extra_context)
            if request.method == "POST" and response.status_code == 302:
                _record_change("changed", request.user, ["password"])
        form = (getattr(response, "context_data", None) or {}).get("form")
        if request.method == "POST" and form is not None and form.has_error("old_password"):
            trail.record("staff.password_refused", organization_id=None)
        return response


class RecordedAdmin(AnyAdmin):
    """Records additions, changes and deletions in the audit trail.

    Django calls these after an action, in its transaction, or before a deletion.
    """

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        _record_change("added", obj, [])
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        _record_change("changed", obj, _fields(message))
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Model]) -> Any:
        for obj in queryset:
            _record_change("deleted", obj, [])
        return super().log_deletions(request, queryset)  # type: ignore[arg-type]


def _record_change(verb: str, obj: Any, fields: list[str]) -> None:
    facts = {"verb": verb, "model": obj._meta.model_name, "id": obj.pk, "fields": fields}
    trail.record("staff.changed", organization_id=None, facts=facts)


def _fields(message: Any) -> list[str]:
    """The field names in Django's description of a change; none in a custom text."""
    if not isinstance(message, list):
        return []
    return [str(field) for part in message for field in part.get("changed", {}).get("fields", [])]


def record_login(sender: Any, request: HttpRequest, user: Staff, **kwargs: Any) -> None:
    try:
        with trail.acting_as("staff", user.pk):
            trail.record("staff.logged_in", organization_id=None)
    except Exception:
        # Without an entry nobody stays logged in: the session would outlive the response.
        with suppress(DatabaseError):
            request.session.flush()
        raise


def record_logout(sender: Any, user: Staff | None, **kwargs: Any) -> None:
    if user is not None:
        with trail.acting_as("staff", user.pk):
            trail.record("staff.logged_out", organization_id=None)


def record_failed_login(sender: Any, **kwargs: Any) -> None:
    """Without the typed name, since people type their password there."""
    trail.record("staff.login_failed", organization_id=None)


def connect() -> None:
    """Connect to Django's signals; may be called repeatedly."""
    user_logged_in.connect(record_login, dispatch_uid="staff_acts")
    user_logged_out.connect(record_logout, dispatch_uid="staff_acts")
    user_login_failed.connect(record_failed_login, dispatch_uid="staff_acts")
