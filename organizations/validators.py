"""Validates names, sign-ups and the texts of a suspension. Makes no database query."""

import unicodedata
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError

from accounts.models import User
from accounts.validators import check_email, check_fields, check_new_password

from .naming import display_name, name_key
from .tenancy.tenant import MAX_NAME_LENGTH

MAX_REASON_LENGTH = 1_000
MAX_MESSAGE_LENGTH = 200
# Bidirectional control characters: with them two different names could look the same.
_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def validate_name(name: str) -> None:
    """Raise ValidationError unless `name`, in any script, is valid for an organization."""
    if len(name) > MAX_NAME_LENGTH or len(display_name(name)) > MAX_NAME_LENGTH:
        raise ValidationError(f"Use a name of at most {MAX_NAME_LENGTH} characters.")
    for character in name:
        if character in _BIDI_CONTROLS:
            raise ValidationError("Remove the characters that change the text direction.")
        if _is_control(character) and not character.isspace():
            raise ValidationError("Remove control characters and unassigned characters.")
    if not any(unicodedata.category(character)[0] in "LNS" for character in name_key(name)):
        raise ValidationError("Use a name with at least one letter, digit or symbol.")


def validate_suspension(*, reason: str, message: str) -> tuple[str, str]:
    """Both texts, trimmed. Raises ValidationError, by field.

    The message is shown on one line of an error, so it is plain text on one line.
    """
    reason, message = reason.strip(), message.strip()

    def check_reason() -> None:
        if len(reason) > MAX_REASON_LENGTH:
            raise ValidationError(f"Use at most {MAX_REASON_LENGTH} characters.")
        if any(_is_control(character) and not character.isspace() for character in reason):
            raise ValidationError("Remove control characters and unassigned characters.")

    def check_message() -> None:
        if len(message) > MAX_MESSAGE_LENGTH:
            raise ValidationError(f"Use at most {MAX_MESSAGE_LENGTH} characters.")
        if any(map(_is_control, message)) or _BIDI_CONTROLS & set(message):
            raise ValidationError("Use plain text on one line.")

    check_fields(reason=check_reason, message=check_message)
    return reason, message


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class SignUp:
    """The input of a sign-up: the organization's name, its first admin's address and password."""

    name: str
    email: str
    password: str = field(repr=False)


def validate_sign_up(sign_up: SignUp) -> SignUp:
    """The normalised sign-up. Raises ValidationError, by field, with all problems at once."""
    email = sign_up.email.strip()
    check_fields(
        organization_name=lambda: validate_name(sign_up.name),
        email=lambda: check_email(email),
        password=lambda: check_new_password(sign_up.password, user=User(email=email)),
    )
    return SignUp(display_name(sign_up.name), email, sign_up.password)
