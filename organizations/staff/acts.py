"""Django admin's acts on organizations. Each asks first, on a page that says what will happen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from organizations import lifecycle
from organizations.background import asking
from organizations.errors import OrganizationError, ServerUnavailable, TookTooLong
from organizations.models import Organization
from organizations.tenancy.tenant import MAX_NAME_LENGTH
from organizations.validators import MAX_MESSAGE_LENGTH, MAX_REASON_LENGTH

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Organization]
else:  # Generic only in the stubs.
    _ModelAdmin = admin.ModelAdmin

_TEMPLATE = "admin/organizations/organization/confirm_act.html"
# The page names each in a field, and Django reads at most 1,000.
_MOST = 500


class SuspendForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        required=False, max_length=MAX_REASON_LENGTH, help_text="For staff only."
    )
    message = forms.CharField(
        required=False,
        max_length=MAX_MESSAGE_LENGTH,
        help_text="For everybody who is refused because of it. Otherwise: “Contact support.”",
    )


class RenameForm(forms.Form):
    """The new name."""

    name = forms.CharField(max_length=MAX_NAME_LENGTH)


@dataclass(frozen=True)
class _Act:
    """verb: the action's name. says: what will happen. is_for_one: not for several at once."""

    verb: str
    done: str
    says: str
    work: Callable[..., object]
    form: type[forms.Form] = forms.Form
    is_for_one: bool = False


_SUSPEND = _Act(
    "suspend",
    "Suspended",
    "All access ends at once, and running queries with it: everybody is refused until the "
    "organization is resumed. Its data stay. Migrations and backups still run, its mails wait.",
    lifecycle.suspend_organization,
    SuspendForm,
)
_RESUME = _Act(
    "resume",
    "Resumed",
    "Everybody has access again, with the logins of before. The mails that waited are sent.",
    lifecycle.resume_organization,
)
_RENAME = _Act(
    "rename",
    "Renamed",
    "Name and slug change at once. The database stays where it is, and everybody stays logged in. "
    "The old name leads here for as long as ORG_NAME_HOLD_DAYS says, and nobody else gets it.",
    lifecycle.rename_organization,
    RenameForm,
    is_for_one=True,
)
_BACKUP = _Act(
    "backup",
    "Enqueued the backup of",
    "A worker makes a backup of the database and the files, as soon as it is free. Everybody can "
    "go on working. One that waits for the night is made now instead.",
    asking.back_up,
)
_VERIFY = _Act(
    "verify",
    "Enqueued the verification of",
    "A worker restores the newest good backup into a throw-away database, compares it with what "
    "was dumped, and drops it. Nothing that is in use is touched.",
    asking.verify,
)
_EXPORT = _Act(
    "export",
    "Enqueued the export of",
    "A worker writes all that is stored for the organization into a file, which replaces the last "
    "one. Only the organization's own admins can download it, for a day. While the organization "
    "is suspended, the job waits.",
    asking.export,
)


class ActsAdmin(_ModelAdmin):
    """What staff do to an organization: one action each, with a Django permission of its own."""

    actions = ("suspend", "resume", "rename", "backup", "verify", "export")

    def has_suspend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("organizations.suspend_organization")

    def has_resume_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("organizations.resume_organization")

    def has_rename_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("organizations.rename_organization")

    def has_backup_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("organizations.backup_organization")

    def has_verify_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("organizations.verify_organization")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("organizations.export_organization")

    @admin.action(permissions=["suspend"], description="Suspend…")
    def suspend(
        self, request: HttpRequest, queryset: QuerySet[Organization]
    ) -> HttpResponse | None:
        return self._asked(request, queryset, _SUSPEND)

    @admin.action(permissions=["resume"], description="Resume…")
    def resume(self, request: HttpRequest, queryset: QuerySet[Organization]) -> HttpResponse | None:
        return self._asked(request, queryset, _RESUME)

    @admin.action(permissions=["rename"], description="Rename…")
    def rename(self, request: HttpRequest, queryset: QuerySet[Organization]) -> HttpResponse | None:
        return self._asked(request, queryset, _RENAME)

    @admin.action(permissions=["backup"], description="Back up…")
    def backup(self, request: HttpRequest, queryset: QuerySet[Organization]) -> HttpResponse | None:
        return self._asked(request, queryset, _BACKUP)

    @admin.action(permissions=["verify"], description="Verify the newest backup…")
    def verify(self, request: HttpRequest, queryset: QuerySet[Organization]) -> HttpResponse | None:
        return self._asked(request, queryset, _VERIFY)

    @admin.action(permissions=["export"], description="Export for the organization's admins…")
    def export(self, request: HttpRequest, queryset: QuerySet[Organization]) -> HttpResponse | None:
        return self._asked(request, queryset, _EXPORT)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """One organization, with a button for each act."""
        acts = [(name, label) for _, name, label in self.get_actions(request).values()]
        context = {"acts": acts} | (extra_context or {})
        return super().change_view(request, object_id, form_url, context)

    def _asked(
        self, request: HttpRequest, queryset: QuerySet[Organization], act: _Act
    ) -> HttpResponse | None:
        """The page that asks; None, for the list, once it is confirmed and done."""
        chosen = list(queryset[: _MOST + 1])
        if len(chosen) > (most := 1 if act.is_for_one else _MOST):
            messages.error(request, f"Choose at most {most}.")
            return None
        form = act.form(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            try:
                self._do(request, chosen, act, form.cleaned_data)
                return None
            except ValidationError as error:
                form.add_error(None, error)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{act.verb.capitalize()}: are you sure?",
            "opts": self.opts,
            "act": act,
            "chosen": chosen,
            "form": form,
        }
        return TemplateResponse(request, _TEMPLATE, context)

    def _do(
        self, request: HttpRequest, chosen: list[Organization], act: _Act, data: dict[str, Any]
    ) -> None:
        for organization in chosen:
            before = organization.name
            try:
                act.work(organization, **data)
            except (ServerUnavailable, TookTooLong):
                raise  # Answered 503: it may be half done, and a second try finishes it.
            except OrganizationError as error:
                messages.error(request, str(error))
            else:
                now = "" if organization.name == before else f" to {organization.name}"
                self.log_change(request, organization, f"{act.done} {before}{now}.")
                messages.success(request, f"{act.done} {before}{now}.")
