"""What may be an organization's name."""

import pytest
from django.core.exceptions import ValidationError

from organizations.validators import validate_name


@pytest.mark.parametrize(
    "name",
    [
        "Acme Corp",
        "株式会社",
        "Ёлки & Палки",
        "شركة",
        "मराठी कंपनी",
        "می\u200cخواهم",  # a joiner that Persian is written with
        'O\'Reilly "Q"; DROP DATABASE postgres; --',
        "n?dbname=org_acme_corp",
        "a\tb",
        "2024",
        "☃",
        "👩\u200d💻 Inc",
        "x" * 255,
    ],
)
def test_names_in_any_script_are_welcome(name: str) -> None:
    validate_name(name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Acme\x00Corp", "control characters"),
        ("Acme\x1bCorp", "control characters"),
        ("Acme\x7f", "control characters"),
        ("Acme\x85\x9f", "control characters"),
        ("Acme\ud800", "control characters"),
        ("Acme\ue000", "control characters"),
        ("Acme\U0010ffff", "control characters"),
        ("\u202eproC emcA", "direction"),
        ("Acme\u2066Corp\u2069", "direction"),
        ("Acme\u200f", "direction"),
        ("x" * 256, "at most 255 characters"),
        ("", "at least one letter"),
        ("   ", "at least one letter"),
        ("-_-", "at least one letter"),
        ("\u200b\u200d", "at least one letter"),
        ("\ufe0f", "at least one letter"),
        ("?!.", "at least one letter"),
        ("\u0301", "at least one letter"),
    ],
)
def test_a_name_is_refused_with_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        validate_name(name)


@pytest.mark.parametrize("blank", ["\u3164", "\u115f\u1160", "\uffa0", "\u2800"])
def test_a_name_that_shows_nothing_is_refused(blank: str) -> None:
    with pytest.raises(ValidationError, match="at least one letter"):
        validate_name(blank)


def test_a_name_that_grows_beyond_the_column_when_normalised_is_refused() -> None:
    with pytest.raises(ValidationError, match="at most 255 characters"):
        validate_name("\u0958" * 200)
