"""Validates the input of a sign-up."""

from accounts.models import User
from accounts.validators import check_email, check_fields, check_new_password

from .validators import validate_name


def validate_sign_up(*, name: str, email: str, password: str) -> None:
    """Raise ValidationError, by field, with all that is wrong at once. Asks no database."""
    email = email.strip()
    check_fields(
        organization_name=lambda: validate_name(name),
        email=lambda: check_email(email),
        password=lambda: check_new_password(password, user=User(email=email)),
    )
