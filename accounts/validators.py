"""What an address and a password must be. Asks no database."""

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from .models import User, email_key

# Hashing is linear in the length, and nobody types more.
MAX_PASSWORD_LENGTH = 1024


def check_email_and_password(*, email: str, password: str) -> None:
    """Raise ValidationError, by field, unless both would do for a new user."""
    errors: dict[str, Any] = {}
    try:
        validate_email(email)
    except ValidationError as error:
        errors["email"] = error
    if len(email) > 254 or len(email_key(email)) > 254:
        errors["email"] = ValidationError("Enter an e-mail address of at most 254 characters.")
    try:
        check_new_password(password, user=User(email=email))
    except ValidationError as error:
        errors["password"] = error
    if errors:
        raise ValidationError(errors)


def check_new_password(password: str, *, user: User) -> None:
    """Raise ValidationError unless the password may be the user's."""
    try:
        password.encode()
    except UnicodeEncodeError as error:
        raise ValidationError("Choose a password that is text in UTF-8.") from error
    if len(password) > MAX_PASSWORD_LENGTH:
        # Before the validators: comparing 100 kB with an address takes long.
        raise ValidationError(f"Choose a password of at most {MAX_PASSWORD_LENGTH} characters.")
    # Django's annotation names the AUTH_USER_MODEL; the validators read attributes alone.
    validate_password(password, user=user)  # type: ignore[arg-type]


def check_email_alone(email: str) -> None:
    """Raise ValidationError unless it is an address that can be stored."""
    if len(email) > 254 or len(email_key(email)) > 254:
        raise ValidationError({"email": "Enter an e-mail address of at most 254 characters."})
    try:
        validate_email(email)
    except ValidationError as error:
        raise ValidationError({"email": error}) from error
