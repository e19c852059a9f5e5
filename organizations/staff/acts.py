"""Django admin's acts on organizations, each confirmed on a page that says what will happen."""

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
        help_text="Shown to everybody who is refused. Empty: “Contact support.”",
    )


class CloneForm(forms.Form):
    """The clone's name, and whether it keeps addresses and passwords."""

    name = forms.CharField(max_length=MAX_NAME_LENGTH)
    exact = forms.BooleanField(
        required=False,
        help_text="Keep addresses, passwords and all other data. Only logins end.",
    )


class RenameForm(forms.Form):
    """The new name."""

    name = forms.CharField(max_length=MAX_NAME_LENGTH)


class DeleteForm(forms.Form):
    """The name, typed, so that nobody deletes the wrong one."""

    typed = forms.CharField(label="Its name", max_length=MAX_NAME_LENGTH)
    free_name = forms.BooleanField(
        required=False, help_text="Let others take its name while it is kept."
    )


class UndeleteForm(forms.Form):
    """The name it comes back with."""

    name = forms.CharField(
        required=False,
        max_length=MAX_NAME_LENGTH,
        help_text="Another name. Needed only if its own is taken by now.",
    )


def _delete(organization: Organization, *, typed: str, free_name: bool) -> None:
    if typed.strip() != organization.name:
        raise ValidationError({"typed": "This is not its name."})
    lifecycle.delete_organization(organization, free_name=free_name)


class RestoreForm(forms.Form):
    """What to restore."""

    at = forms.DateTimeField(
        required=False,
        help_text="Use the newest good backup from this time (UTC) or earlier, such as 2026-01-15 "
        "09:00. Empty: the newest.",
    )
    undo = forms.BooleanField(
        required=False,
        help_text="Instead, switch back to the database that the newest restore kept.",
    )
    beside = forms.BooleanField(
        required=False,
        help_text="Instead, make a read-only organization from the backup, dropped after "
        "ORG_BESIDE_DAYS. Nothing changes here.",
    )
    name = forms.CharField(
        required=False,
        max_length=MAX_NAME_LENGTH,
        help_text="Name of the read-only organization. Empty: this one's, with the backup's time.",
    )


@dataclass(frozen=True)
class Act:
    """verb: the action's name, and its permission's. says: what will happen. button: its label, if
    not the verb. is_for_one: not for several at once."""

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
    "Blocks all access until the organization is resumed, and ends running queries, both at once. "
    "Its data stay. Migrations and backups still run; its mails wait.",
    lifecycle.suspend_organization,
    SuspendForm,
)
_RESUME = Act(
    "resume",
    "Resumed",
    "Restores access. Users stay logged in. Waiting mails are sent.",
    lifecycle.resume_organization,
)
_RENAME = Act(
    "rename",
    "Renamed",
    "Changes name and slug at once. The database stays where it is, and users stay logged in. The "
    "old name still finds this organization for ORG_NAME_HOLD_DAYS, and nobody else can take it.",
    lifecycle.rename_organization,
    RenameForm,
    is_for_one=True,
)
_BACKUP = Act(
    "backup",
    "Enqueued the backup of",
    "A worker backs up the database and the files as soon as it is free. Users can keep working. A "
    "backup that waits for the night is made now instead.",
    asking.back_up,
    button="Back up",
)
_VERIFY = Act(
    "verify",
    "Enqueued the verification of",
    "A worker restores the newest good backup into a throw-away database, compares it with what "
    "was dumped, and drops it. Nothing in use is touched.",
    asking.verify,
    button="Verify the newest backup",
)
_EXPORT = Act(
    "export",
    "Enqueued the export of",
    "A worker writes all that is stored for the organization into a file, which replaces the "
    "previous one. Only the organization's own admins can download it, for a day. While the "
    "organization is suspended, the job waits.",
    asking.export,
    button="Export for the organization's admins",
)
_RESTORE = Act(
    "restore",
    "Enqueued the restore of",
    "A worker makes a new database from the backup. Requests are served until the switch, then get "
    "503 for a moment. Data, users' passwords and their rights go back to the backup's. All logins "
    "and mailed links become invalid. What was written since the backup is then only in the "
    "previous database, which is kept for ORG_RESTORE_KEEP_DAYS and can be switched back to. With "
    "“beside” nothing is switched: the backup becomes a new, read-only organization.",
    restores.order,
    RestoreForm,
    is_for_one=True,
)
_DELETE = Act(
    "delete",
    "Deleted",
    "Ends all access at once. The database is kept aside for ORG_DELETION_GRACE_DAYS, and the "
    "organization can be undeleted; then it is dropped with its files. If ORG_DELETION_GRACE_DAYS "
    "is 0, it is dropped now. A read-only organization is always dropped now, without a backup.",
    _delete,
    DeleteForm,
    is_for_one=True,
)
_UNDELETE = Act(
    "undelete",
    "Undeleted",
    "Accounts, data and files come back as they were. Users must log in again, and mailed links "
    "become invalid.",
    lifecycle.undelete_organization,
    UndeleteForm,
    is_for_one=True,
)
_CLONE = Act(
    "clone",
    "Enqueued the clone of",
    "A worker makes a new organization with this one's data and files at that moment. Nothing "
    "changes here. Nobody is logged in to the clone, and it sends no mail. Unless it is exact, "
    "addresses and passwords are replaced before anybody can use it; then give somebody access "
    "with manage.py create_admin.",
    clones.ask,
    CloneForm,
    is_for_one=True,
)
_ARCHIVE = Act(
    "archive",
    "Enqueued the archive of",
    "Ends all access. A worker makes a last backup, verifies it by a restore, and only then drops "
    "the database, the files, and what restores kept. If something fails before the drop, the "
    "organization is reopened as it was. Its name stays taken, and it can be thawed at any time.",
    archives.ask_archive,
)
_THAW = Act(
    "thaw",
    "Enqueued the thaw of",
    "A worker makes a new database from the backup. Accounts, data and files come back as they "
    "were, with the status that the organization had. Users must log in again, and mailed links "
    "become invalid.",
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
