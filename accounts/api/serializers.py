"""Serializers for users, logins and tokens."""

from typing import Any

from rest_framework import serializers

from accounts import validators
from accounts.models import MAX_EMAIL_LENGTH, User
from organizations.tenancy.tenant import MAX_NAME_LENGTH

from .fields import OutputSerializer, PasswordField, StrictBooleanField, StrictCharField


class ChecksPerson(serializers.Serializer[Any]):
    """Reports errors in address and password together with those in other fields.

    The service checks them too, but only once all fields are present and of the right type.
    """

    def validate_email(self, email: str) -> str:
        validators.check_email(email)
        return email

    def validate_password(self, password: str) -> str:
        email = self.initial_data.get("email", getattr(self.instance, "email", ""))
        user = User(email=email if isinstance(email, str) else "")
        validators.check_new_password(password, user=user)
        return password


class UserOutput(OutputSerializer[User]):
    """A user of the organization."""

    class Meta:
        model = User
        fields = ("id", "email", "is_admin", "is_active", "created_at", "email_verified_at")
        read_only_fields = fields


class LoginUserOutput(OutputSerializer[User]):
    """The user in the answer to a login."""

    class Meta:
        model = User
        fields = ("id", "email", "is_admin", "is_active")
        read_only_fields = fields


class CredentialsInput(serializers.Serializer[Any]):
    """E-mail and password. Accepts any text: an invalid address is just a wrong one."""

    email = StrictCharField(max_length=MAX_EMAIL_LENGTH)
    password = PasswordField()


class TokenInput(CredentialsInput):
    """A login at v1."""

    organization = StrictCharField(max_length=MAX_NAME_LENGTH)


class RefreshInput(serializers.Serializer[Any]):
    """A refresh token."""

    refresh = StrictCharField(max_length=4096)


class LogoutInput(serializers.Serializer[Any]):
    """Optionally, the refresh token of the login to end."""

    refresh = StrictCharField(max_length=4096, required=False)


class PasswordInput(serializers.Serializer[Any]):
    """A change of the caller's password."""

    current_password = PasswordField()
    new_password = PasswordField()


class MeInput(serializers.Serializer[Any]):
    """What users may change about themselves."""

    email = StrictCharField(max_length=MAX_EMAIL_LENGTH)
    current_password = PasswordField(
        required=False, help_text="Required to change the e-mail: password resets go there."
    )


class NewUserInput(ChecksPerson, CredentialsInput):
    """A user that an admin adds."""

    is_admin = StrictBooleanField(default=False)


class UserInput(ChecksPerson):
    """What an admin may change about a user."""

    email = StrictCharField(max_length=MAX_EMAIL_LENGTH)
    password = PasswordField(required=False)
    is_admin = StrictBooleanField(required=False)
    is_active = StrictBooleanField(required=False)


class TokenPairOutput(serializers.Serializer[Any]):
    """A rotated pair of tokens."""

    access = serializers.CharField()
    refresh = serializers.CharField()
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds until the access token expires.")


class TokenOutput(TokenPairOutput):
    """A login at v1."""

    user = LoginUserOutput()


class LoginOutput(serializers.Serializer[Any]):
    """A login at `/admin/login`."""

    access_token = serializers.CharField()
    token_type = serializers.CharField()
    refresh_token = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds until the access token expires.")
    user = LoginUserOutput()


class OrganizationNameInput(serializers.Serializer[Any]):
    """The query parameter of `/admin/login`."""

    organization_name = StrictCharField(max_length=MAX_NAME_LENGTH)
