"""Validates organization names."""

import unicodedata

from django.core.exceptions import ValidationError

from .naming import display_name, name_key

MAX_NAME_LENGTH = 255
# They turn the text around them: two names could look the same and differ.
_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def validate_name(name: str) -> None:
    """Raise ValidationError unless `name`, in any script, can be an organization's."""
    if len(name) > MAX_NAME_LENGTH or len(display_name(name)) > MAX_NAME_LENGTH:
        raise ValidationError(f"Use a name of at most {MAX_NAME_LENGTH} characters.")
    for character in name:
        if character in _BIDI_CONTROLS:
            raise ValidationError("Leave out the characters that change the text's direction.")
        category = unicodedata.category(character)
        if category in {"Cc", "Cs", "Co", "Cn"} and not character.isspace():
            raise ValidationError("Leave out control characters and characters without meaning.")
    if not any(unicodedata.category(character)[0] in "LNS" for character in name_key(name)):
        raise ValidationError("Use a name with at least one letter, digit or symbol.")
