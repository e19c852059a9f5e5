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
from organizations.background import asking, clones, restores
from organizations.errors import (
    OrganizationError,
    ServerRefused,
    ServerUnavailable,
    SessionsRemain,
    TookTooLong,
)
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


class CloneForm(forms.Form):
    """What it is called, and whether it keeps addresses and passwords."""

    name = forms.CharField(max_length=MAX_NAME_LENGTH)
    exact = forms.BooleanField(
        required=False,
        help_text="Keep addresses, passwords and all else as it is. Only logins end.",
    )


class RenameForm(forms.Form):
    """The new name."""

    name = forms.CharField(max_length=MAX_NAME_LENGTH)


class DeleteForm(forms.Form):
    """The name, typed: nobody deletes the wrong one."""

    typed = forms.CharField(label="Its name", max_length=MAX_NAME_LENGTH)
    free_name = forms.BooleanField(
        required=False, help_text="Others can have its name while it is kept."
    )


class UndeleteForm(forms.Form):
    """The name it comes back with."""

    name = forms.CharField(
        required=False,
        max_length=MAX_NAME_LENGTH,
        help_text="If it is to have another one, or if somebody else has its own by now.",
    )


def _delete(organization: Organization, *, typed: str, free_name: bool) -> None:
    if typed.strip() != organization.name:
        raise ValidationError({"typed": "This is not its name."})
    lifecycle.delete_organization(organization, free_name=free_name)


class RestoreForm(forms.Form):
    """To what it goes back."""

    at = forms.DateTimeField(
        required=False,
        help_text="From the newest good backup of this time (UTC) or before, such as 2026-01-15 "
        "09:00. Empty: the newest of all.",
    )
    undo = forms.BooleanField(
        required=False,
        help_text="Instead, switch back to the database that the newest restore has kept.",
    )
    beside = forms.BooleanField(
        required=False,
        help_text="Instead, make a read-only organization to look at: nothing changes here. It is "
        "dropped after as many days as ORG_BESIDE_DAYS says.",
    )
    name = forms.CharField(
        required=False,
        max_length=MAX_NAME_LENGTH,
        help_text="Of the one beside. Empty: with the time of the backup.",
    )


@dataclass(frozen=True)
class _Act:
    """verb: the action's name, and its permission's. says: what will happen. button: if it is not
    the verb. is_for_one: not for several at once."""

    verb: str
    done: str
    says: str
    work: Callable[..., object]
    form: type[forms.Form] = forms.Form
    is_for_one: bool = False
    button: str = ""


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
    button="Back up",
)
_VERIFY = _Act(
    "verify",
    "Enqueued the verification of",
    "A worker restores the newest good backup into a throw-away database, compares it with what "
    "was dumped, and drops it. Nothing that is in use is touched.",
    asking.verify,
    button="Verify the newest backup",
)
_EXPORT = _Act(
    "export",
    "Enqueued the export of",
    "A worker writes all that is stored for the organization into a file, which replaces the last "
    "one. Only the organization's own admins can download it, for a day. While the organization "
    "is suspended, the job waits.",
    asking.export,
    button="Export for the organization's admins",
)
_RESTORE = _Act(
    "restore",
    "A job restores",
    "A worker makes a new database from the backup. Until that is ready, the organization is "
    "served as ever; then requests are answered 503 for a moment, and the new database takes its "
    "place. What was written since the backup is gone from there, and users' passwords and rights "
    "are those of then. All log-ins and mailed links are void. The database of before is kept for "
    "as long as ORG_RESTORE_KEEP_DAYS says, and can be switched back to.",
    restores.order,
    RestoreForm,
    is_for_one=True,
)
_DELETE = _Act(
    "delete",
    "Deleted",
    "All access ends at once. For as long as ORG_DELETION_GRACE_DAYS says, the database is kept "
    "aside, and the organization can be undeleted; then it is dropped, with its files. If that is "
    "0, it is dropped now.",
    _delete,
    DeleteForm,
    is_for_one=True,
)
_UNDELETE = _Act(
    "undelete",
    "Undeleted",
    "Accounts, data and files come back as they were. Everybody must log in again, and links that "
    "were mailed are void.",
    lifecycle.undelete_organization,
    UndeleteForm,
    is_for_one=True,
)
_CLONE = _Act(
    "clone",
    "Asked a worker to clone",
    "A worker makes a new organization with its data and files as they are at that moment. Nothing "
    "changes here. Nobody is logged in to the clone, and it sends no mail. Unless it is exact, "
    "addresses and passwords are replaced before anybody can use it: then give somebody access "
    "with manage.py create_admin.",
    clones.ask,
    CloneForm,
    is_for_one=True,
)
_ACTS = (
    _SUSPEND,
    _RESUME,
    _RENAME,
    _DELETE,
    _UNDELETE,
    _BACKUP,
    _VERIFY,
    _EXPORT,
    _RESTORE,
    _CLONE,
)


class ActsAdmin(_ModelAdmin):
    """A button for each act, with a Django permission of its own."""

    actions = tuple(act.verb for act in _ACTS)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """One organization, with a button for each act."""
        actions = filter(None, self.get_actions(request).values())
        acts = [(name, label) for _, name, label in actions]
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
            except (ServerUnavailable, ServerRefused, SessionsRemain, TookTooLong):
                raise  # Answered 503: it may be half done, and a second try finishes it.
            except OrganizationError as error:
                messages.error(request, str(error))
            else:
                now = "" if organization.name == before else f" to {organization.name}"
                self.log_change(request, organization, f"{act.done} {before}{now}.")
                messages.success(request, f"{act.done} {before}{now}.")


def _add(act: _Act) -> None:
    """Give ActsAdmin the action, and Django what asks for its permission."""
    # Not has_delete_permission, by which Django shows buttons of its own.
    needed = f"act_{act.verb}"

    def may(self: ActsAdmin, request: HttpRequest) -> bool:
        return request.user.has_perm(f"organizations.{act.verb}_organization")

    @admin.action(permissions=[needed], description=f"{act.button or act.verb.capitalize()}…")
    def ask(
        self: ActsAdmin, request: HttpRequest, queryset: QuerySet[Organization]
    ) -> HttpResponse | None:
        return self._asked(request, queryset, act)

    setattr(ActsAdmin, f"has_{needed}_permission", may)
    setattr(ActsAdmin, act.verb, ask)


for _act in _ACTS:
    _add(_act)
