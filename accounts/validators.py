"""Validates e-mail addresses and passwords. Makes no database query."""

from collections.abc import Callable

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from .models import MAX_EMAIL_LENGTH, User, email_key

# Hashing takes time linear in the length, and nobody types more.
MAX_PASSWORD_LENGTH = 1024


def check_fields(**checks: Callable[[], None]) -> None:
    """Run all checks. Raise one ValidationError with all problems by field."""
    errors: dict[str, list[ValidationError]] = {}
    for field, check in checks.items():
        try:
            check()
        except ValidationError as error:
            errors[field] = error.error_list
    if errors:
        raise ValidationError(errors)


def check_email_and_password(*, email: str, password: str) -> None:
    """Raise ValidationError, by field, unless both are valid for a new user."""
    check_fields(
        email=lambda: check_email(email),
        password=lambda: check_new_password(password, user=User(email=email)),
    )


def check_email(email: str) -> None:
    """Raise ValidationError unless the address is valid and can be stored."""
    if len(email) > MAX_EMAIL_LENGTH or len(email_key(email)) > MAX_EMAIL_LENGTH:
        raise ValidationError(f"Enter an e-mail address of at most {MAX_EMAIL_LENGTH} characters.")
    validate_email(email)
    # Django allows control characters between quotes, and bidirectional and line-ending ones in a
    # host. No mail reaches such an address, and it would be shown in lists and logs.
    if not email.isprintable():
        raise ValidationError("The e-mail address contains invisible characters. Remove them.")


def check_new_password(password: str, *, user: User) -> None:
    """Raise ValidationError unless the user may have this password."""
    try:
        password.encode()
    except UnicodeEncodeError as error:
        raise ValidationError("The password is not valid text. Choose another one.") from error
    if len(password) > MAX_PASSWORD_LENGTH:
        # Before the validators, which take long to compare 100 kB with an address.
        raise ValidationError(f"Choose a password of at most {MAX_PASSWORD_LENGTH} characters.")
    # Django's annotation names the AUTH_USER_MODEL; the validators only read attributes.
    validate_password(password, user=user)  # type: ignore[arg-type]
