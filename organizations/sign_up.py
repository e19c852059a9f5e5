"""What a sign-up must bring."""

from django.core.exceptions import ValidationError

from accounts.services import check_email_and_password

from .validators import validate_name


def validate_sign_up(*, name: str, email: str, password: str) -> None:
    """Raise ValidationError, by field, with all that is wrong at once. Asks no database."""
    errors: dict[str, list[ValidationError]] = {}
    try:
        validate_name(name)
    except ValidationError as error:
        errors["organization_name"] = error.error_list
    try:
        check_email_and_password(email=email.strip(), password=password)
    except ValidationError as error:
        errors.update(error.error_dict)
    if errors:
        raise ValidationError(errors)
