"""Serializers for organizations, sign-ups and audit entries."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from accounts.api.fields import (
    OutputSerializer,
    PasswordField,
    StrictBooleanField,
    StrictCharField,
)
from accounts.api.serializers import ChecksPerson
from accounts.models import MAX_EMAIL_LENGTH
from organizations.models import AuditEntry, BackupRun, Organization
from organizations.tenancy.tenant import MAX_NAME_LENGTH
from organizations.validators import MAX_MESSAGE_LENGTH, MAX_REASON_LENGTH, validate_name

_READ_ONLY = "If it is a read-only organization, made from a backup: when it is dropped."


class SignUpInput(ChecksPerson):
    """The input of a sign-up."""

    email = StrictCharField(max_length=MAX_EMAIL_LENGTH, help_text="The first admin's address.")
    password = PasswordField(help_text="The first admin's password.")
    # source: as in validators.SignUp.
    organization_name = StrictCharField(max_length=MAX_NAME_LENGTH, source="name")

    def validate_organization_name(self, name: str) -> str:
        validate_name(name)
        return name


class NameInput(serializers.Serializer[Any]):
    """An organization by its name."""

    organization_name = StrictCharField(max_length=MAX_NAME_LENGTH)


# component_name: generated clients have a class of this name.
@extend_schema_serializer(component_name="OrganizationOutput")
class FirstEditionOrganizationOutput(OutputSerializer[Organization]):
    """An organization in the first edition's format."""

    class Meta:
        model = Organization
        fields = ("id", "name", "admin_email", "created_at")
        read_only_fields = fields


class MaskedOrganizationOutput(FirstEditionOrganizationOutput):
    """The same for strangers, with the address masked."""

    def to_representation(self, instance: Organization) -> dict[str, Any]:
        shown: dict[str, Any] = super().to_representation(instance)
        return {**shown, "admin_email": masked(instance.admin_email)}


def masked(email: str) -> str:
    """`a***@company.com`: still a valid address."""
    local, at, domain = email.rpartition("@")
    # Not the first character of a quoted one: the result would not be an address.
    first = local[:1] if local[:1].isalnum() else ""
    return f"{first}***@{domain}" if at else ""


class SuspendInput(serializers.Serializer[Any]):
    """Why an organization is suspended."""

    reason = StrictCharField(
        max_length=MAX_REASON_LENGTH, required=False, allow_blank=True, help_text="For staff."
    )
    message = StrictCharField(
        max_length=MAX_MESSAGE_LENGTH,
        required=False,
        allow_blank=True,
        help_text="Shown to whoever is refused; plain text.",
    )


class RenameInput(serializers.Serializer[Any]):
    """An organization's new name."""

    name = StrictCharField(max_length=MAX_NAME_LENGTH)


class DeleteInput(serializers.Serializer[Any]):
    """Whether a deleted organization's name is free."""

    free_name = StrictBooleanField(
        required=False, help_text="Whether others can take its name while it is kept."
    )


class UndeleteInput(serializers.Serializer[Any]):
    """The name with which an organization comes back."""

    name = StrictCharField(
        max_length=MAX_NAME_LENGTH, required=False, help_text="Its own by default."
    )


class RestoreInput(serializers.Serializer[Any]):
    """What to restore an organization from."""

    at = serializers.DateTimeField(
        required=False,
        help_text="Use the newest good backup from this time or earlier. Default: the newest.",
    )
    undo = StrictBooleanField(
        default=False, help_text="Instead, switch back to what the newest restore kept."
    )
    beside = StrictBooleanField(
        default=False,
        help_text="Instead, make a read-only organization from the backup, for some days.",
    )
    name = StrictCharField(
        max_length=MAX_NAME_LENGTH,
        required=False,
        help_text="The read-only organization's name. Default: this one's, with the backup's time.",
    )


class RestoreOutput(serializers.Serializer[Any]):
    """The newest restore of an organization."""

    state = serializers.ChoiceField(
        choices=["none", "waiting", "running", "switching", "done", "undone", "failed"],
        help_text="`failed`: nothing was switched. `switching`: requests get 503 for a moment.",
    )
    undo = serializers.BooleanField(help_text="Whether it undoes another restore.")
    backed_up_at = serializers.DateTimeField(
        allow_null=True, help_text="The time of the restored data."
    )
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    undo_until = serializers.DateTimeField(
        allow_null=True, help_text="Until then `undo` can switch back to what a restore kept."
    )
    users = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="How many users change, by what changes: `password`, `rights`, `address`, "
        "`gone` (not in the backup), `returns` (removed since).",
    )
    error = serializers.CharField(allow_blank=True)
    beside = serializers.BooleanField(help_text="Whether it makes a read-only organization.")
    name = serializers.CharField(allow_blank=True, help_text="Name of the read-only organization.")
    id = serializers.IntegerField(
        allow_null=True, help_text="The read-only organization's id, while it exists."
    )
    url = serializers.SerializerMethodField(
        help_text="The read-only organization's path, while it exists."
    )

    def get_url(self, newest: Any) -> str:
        return "" if newest.id is None else reverse("organizations-detail", args=[newest.id])


class CloneInput(serializers.Serializer[Any]):
    """A clone's name, and whether it keeps addresses and passwords."""

    name = StrictCharField(max_length=MAX_NAME_LENGTH)
    exact = StrictBooleanField(
        default=False, help_text="Keep addresses and passwords. Logins still end."
    )


class CloneOutput(serializers.Serializer[Any]):
    """The newest requested clone of an organization."""

    state = serializers.ChoiceField(choices=["none", "waiting", "running", "done", "failed"])
    name = serializers.CharField()
    exact = serializers.BooleanField()
    step = serializers.CharField(help_text="The current or last step.")
    error = serializers.CharField(help_text="Why it failed, or why its last try did.")
    id = serializers.IntegerField(allow_null=True, help_text="The clone's id, while it exists.")


class FailureOutput(serializers.Serializer[Any]):
    """Why it failed, in the format of all errors."""

    detail = serializers.CharField()
    code = serializers.CharField()


class SignUpStatusOutput(serializers.Serializer[Any]):
    """The state of a sign-up."""

    state = serializers.ChoiceField(choices=["waiting", "running", "done", "failed"])
    step = serializers.CharField(help_text="The last step done; empty before the first.")
    status_url = serializers.CharField(required=False, help_text="Only in the 202 response.")
    organization = FirstEditionOrganizationOutput(
        required=False, allow_null=True, help_text="Once done."
    )
    error = FailureOutput(required=False, help_text="If it failed.")


class OrganizationDetailOutput(serializers.ModelSerializer[Organization]):
    """An organization as its users see it, without the location of its database."""

    is_clone = serializers.BooleanField(read_only=True, help_text="A clone sends no mail.")
    read_only_until = serializers.DateTimeField(
        read_only=True, allow_null=True, help_text=_READ_ONLY
    )

    class Meta:
        model = Organization
        fields = (
            *("id", "name", "slug", "admin_email", "status", "is_clone", "read_only_until"),
            "created_at",
        )
        read_only_fields = fields


class OrganizationStaffOutput(serializers.ModelSerializer[Organization]):
    """An organization as staff see it, with server and database."""

    server = serializers.CharField(source="server.name", read_only=True)
    # No EmailField: the schema would promise an address.
    admin_email = serializers.CharField(read_only=True, help_text="Empty if deleted.")
    kept_until = serializers.DateTimeField(
        read_only=True, allow_null=True, help_text="If it is `trashed`: when it is dropped."
    )
    cloned_from = serializers.IntegerField(
        read_only=True, allow_null=True, help_text="The id of the organization it is a clone of."
    )

    read_only_until = serializers.DateTimeField(
        read_only=True, allow_null=True, help_text=_READ_ONLY
    )

    class Meta:
        model = Organization
        fields = (
            "id",
            "name",
            "slug",
            "admin_email",
            "status",
            "status_reason",
            "status_message",
            "kept_until",
            "cloned_from",
            "read_only_until",
            "server",
            "database_name",
            "created_at",
        )
        read_only_fields = fields


class AuditEntryOutput(serializers.ModelSerializer[AuditEntry]):
    """One audit entry."""

    facts = serializers.DictField(read_only=True, help_text="Further facts about the event.")

    class Meta:
        model = AuditEntry
        fields = (
            "id",
            "at",
            "act",
            "actor",
            "actor_id",
            "user_id",
            "person",
            "address",
            "request_id",
            "facts",
        )
        read_only_fields = fields


class ExportOutput(serializers.Serializer[Any]):
    """The newest export of the caller's organization."""

    state = serializers.ChoiceField(
        choices=["none", "waiting", "running", "ready", "failed"],
        help_text="`none`: there is none, or it has expired. `failed`: request it again.",
    )
    bytes = serializers.IntegerField(
        required=False, help_text="Only if `ready`, like the fields after it."
    )
    made_at = serializers.DateTimeField(required=False)
    expires_at = serializers.DateTimeField(required=False, help_text="Then it is deleted.")
    url = serializers.CharField(
        required=False,
        help_text="Where to download it, with this login, for a quarter of an hour. After that, "
        "get the state again.",
    )


class AskedOutput(serializers.Serializer[Any]):
    """The enqueued job."""

    job = serializers.IntegerField(allow_null=True, help_text="As in the admin's list of jobs.")
    state = serializers.ChoiceField(
        choices=["none", "waiting", "running", "done", "failed"],
        help_text="`none`: it ended, and its record was deleted.",
    )
    step = serializers.CharField(help_text="The current step; empty before it begins.")
    error = serializers.CharField(help_text="Why its last try failed.")


class BackupRunOutput(serializers.ModelSerializer[BackupRun]):
    """A backup of an organization, as staff see it."""

    class Meta:
        model = BackupRun
        fields = (
            "id",
            "state",
            "started_at",
            "ended_at",
            "bytes",
            "encryption_key",
            "verified_at",
            "error_code",
            "error",
        )
        read_only_fields = fields
