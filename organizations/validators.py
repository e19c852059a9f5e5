"""Validates organization names and sign-ups. Makes no database query."""

import unicodedata
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError

from accounts.models import User
from accounts.validators import check_email, check_fields, check_new_password

from .naming import display_name, name_key
from .tenancy.tenant import MAX_NAME_LENGTH

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
        category = unicodedata.category(character)
        if category in {"Cc", "Cs", "Co", "Cn"} and not character.isspace():
            raise ValidationError("Remove control characters and unassigned characters.")
    if not any(unicodedata.category(character)[0] in "LNS" for character in name_key(name)):
        raise ValidationError("Use a name with at least one letter, digit or symbol.")


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
