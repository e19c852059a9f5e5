"""Validation of e-mail addresses and passwords. No database queries."""

from collections.abc import Callable

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from .models import User, email_key

# Hashing is linear in the length, and nobody types more.
MAX_PASSWORD_LENGTH = 1024


def check_fields(**checks: Callable[[], None]) -> None:
    """Run the check of each field. Raise ValidationError by field, with all that is wrong."""
    errors: dict[str, list[ValidationError]] = {}
    for field, check in checks.items():
        try:
            check()
        except ValidationError as error:
            errors[field] = error.error_list
    if errors:
        raise ValidationError(errors)


def check_email_and_password(*, email: str, password: str) -> None:
    """Raise ValidationError, by field, unless both would do for a new user."""
    check_fields(
        email=lambda: check_email(email),
        password=lambda: check_new_password(password, user=User(email=email)),
    )


def check_email(email: str) -> None:
    """Raise ValidationError unless it is an address that can be stored."""
    if len(email) > 254 or len(email_key(email)) > 254:
        raise ValidationError("Enter an e-mail address of at most 254 characters.")
    validate_email(email)
    # Django allows control characters between quotes, and in a host those that turn the text
    # around or end its line. No mail goes to such an address, and it is shown in lists and logs.
    if not email.isprintable():
        raise ValidationError("Leave out characters of the e-mail address that cannot be seen.")


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
