"""Django admin's acts on organizations. Each asks first, on a page that says what will happen."""

from collections.abc import Callable
from dataclasses import dataclass

from django import forms
from django.core.exceptions import ValidationError

from organizations import lifecycle
from organizations.background import archives, asking, clones, restores
from organizations.models import Organization
from organizations.tenancy.tenant import MAX_NAME_LENGTH
from organizations.validators import MAX_MESSAGE_LENGTH, MAX_REASON_LENGTH


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
class Act:
    """verb: the action's name, and its permission's. says: what will happen. button: if it is not
    the verb. is_for_one: not for several at once."""

    verb: str
    done: str
    says: str
    work: Callable[..., object]
    form: type[forms.Form] = forms.Form
    is_for_one: bool = False
    button: str = ""


_SUSPEND = Act(
    "suspend",
    "Suspended",
    "All access ends at once, and running queries with it: everybody is refused until the "
    "organization is resumed. Its data stay. Migrations and backups still run, its mails wait.",
    lifecycle.suspend_organization,
    SuspendForm,
)
_RESUME = Act(
    "resume",
    "Resumed",
    "Everybody has access again, with the logins of before. The mails that waited are sent.",
    lifecycle.resume_organization,
)
_RENAME = Act(
    "rename",
    "Renamed",
    "Name and slug change at once. The database stays where it is, and everybody stays logged in. "
    "The old name leads here for as long as ORG_NAME_HOLD_DAYS says, and nobody else gets it.",
    lifecycle.rename_organization,
    RenameForm,
    is_for_one=True,
)
_BACKUP = Act(
    "backup",
    "Enqueued the backup of",
    "A worker makes a backup of the database and the files, as soon as it is free. Everybody can "
    "go on working. One that waits for the night is made now instead.",
    asking.back_up,
    button="Back up",
)
_VERIFY = Act(
    "verify",
    "Enqueued the verification of",
    "A worker restores the newest good backup into a throw-away database, compares it with what "
    "was dumped, and drops it. Nothing that is in use is touched.",
    asking.verify,
    button="Verify the newest backup",
)
_EXPORT = Act(
    "export",
    "Enqueued the export of",
    "A worker writes all that is stored for the organization into a file, which replaces the last "
    "one. Only the organization's own admins can download it, for a day. While the organization "
    "is suspended, the job waits.",
    asking.export,
    button="Export for the organization's admins",
)
_RESTORE = Act(
    "restore",
    "A job restores",
    "A worker makes a new database from the backup. Until that is ready, the organization is "
    "served as ever; then requests are answered 503 for a moment, and the new database takes its "
    "place. What was written since the backup is gone from there, and users' passwords and rights "
    "are those of then. All log-ins and mailed links are void. The database of before is kept for "
    "as long as ORG_RESTORE_KEEP_DAYS says, and can be switched back to. With “beside” nothing of "
    "this happens: see there.",
    restores.order,
    RestoreForm,
    is_for_one=True,
)
_DELETE = Act(
    "delete",
    "Deleted",
    "All access ends at once. For as long as ORG_DELETION_GRACE_DAYS says, the database is kept "
    "aside, and the organization can be undeleted; then it is dropped, with its files. If that is "
    "0, it is dropped now. One that is read-only is dropped now, always, and without a backup.",
    _delete,
    DeleteForm,
    is_for_one=True,
)
_UNDELETE = Act(
    "undelete",
    "Undeleted",
    "Accounts, data and files come back as they were. Everybody must log in again, and links that "
    "were mailed are void.",
    lifecycle.undelete_organization,
    UndeleteForm,
    is_for_one=True,
)
_CLONE = Act(
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
_ARCHIVE = Act(
    "archive",
    "Asked a worker to archive",
    "All access ends. A worker makes a last backup, verifies it by a restore, and only then drops "
    "the database and the files, and what restores have kept. If that fails, the organization is "
    "back as it was. Its name stays taken, and it can be thawed at any time.",
    archives.ask_archive,
)
_THAW = Act(
    "thaw",
    "Asked a worker to thaw",
    "A worker makes a new database from the backup. Accounts, data and files come back as they "
    "were, with the status that the organization had. Everybody must log in again, and links that "
    "were mailed are void.",
    archives.ask_thaw,
)
ACTS = (
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
    _ARCHIVE,
    _THAW,
)
