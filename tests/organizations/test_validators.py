"""Validation of organization names."""

import pytest
from django.core.exceptions import ValidationError

from organizations.validators import validate_name

pytestmark = pytest.mark.pure

WELCOME = (
    "Acme Corp",
    "株式会社",
    "Ёлки & Палки",
    "شركة",
    "मराठी कंपनी",
    "می\u200cخواهم",  # A joiner that Persian is written with.
    'O\'Reilly "Q"; DROP DATABASE postgres; --',
    "a\tb",
    "2024",
    "☃",
    "👩\u200d💻 Inc",
    "x" * 255,
)
REFUSED = {
    "control characters": (
        *("Acme\x00Corp", "Acme\x1bCorp", "Acme\x7f", "Acme\x85\x9f"),
        *("Acme\ud800", "Acme\ue000", "Acme\U0010ffff"),
    ),
    "direction": ("\u202eproC emcA", "Acme\u2066Corp\u2069", "Acme\u200f"),
    # The second grows when it is normalised.
    "at most 255 characters": ("x" * 256, "\u0958" * 200),
    "at least one letter": (
        *("", "   ", "-_-", "?!.", "\u0301", "\u200b\u200d", "\ufe0f"),
        *("\u3164", "\u115f\u1160", "\uffa0", "\u2800"),
    ),
}


def test_names_in_any_script_are_welcome() -> None:
    for name in WELCOME:
        validate_name(name)


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_name_is_refused_with_a_sentence(sentence: str) -> None:
    accepted = []
    for name in REFUSED[sentence]:
        try:
            validate_name(name)
        except ValidationError as error:
            assert sentence in str(error), ascii(name)
        else:
            accepted.append(name)
    assert accepted == []
