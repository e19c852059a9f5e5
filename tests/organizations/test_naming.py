"""From what was typed to slugs and database names."""

import re
import unicodedata

import pytest

from accounts.models import email_key
from organizations.naming import (
    MAX_IDENTIFIER_BYTES,
    RESERVED_PREFIX,
    database_name_for,
    display_name,
    name_digest,
    name_key,
    role_name,
    slug_for,
    slug_variant,
)
from organizations.tenancy.folding import folded

AWKWARD_NAMES = (
    "Acme Corp",
    "株式会社",
    "Ünïcödé GmbH & Co. KG",
    'O\'Reilly "Q"; DROP DATABASE postgres; --',
    "n?dbname=org_acme_corp",
    "x' dbname='org_acme_corp",
    "a\tTEMPLATE\t'org_acme_corp'",
    "2024",
    "１２３",
    "٣٤٥",
    "☃",
    "-" * 3 + "x" + "-" * 3,
    "x" * 255,
    "株" * 255,
    "é" * 255,
    "mgmt_template",
)


@pytest.mark.parametrize(
    "spelling",
    [
        "acme-corp",
        "ACME_CORP",
        " acme  corp ",
        "Acme\tCorp",
        "Acme\u00a0Corp",
        "Acme\u2014Corp",
        "ＡＣＭＥ＿Corp",
        "Acme\u00ad Corp",
        "Acme\u200b Corp",
        "-Acme Corp-",
    ],
)
def test_spellings_that_a_person_would_confuse_have_one_key(spelling: str) -> None:
    assert name_key(spelling) == name_key("Acme Corp")
    assert name_digest(spelling) == name_digest("Acme Corp")


@pytest.mark.parametrize("blank", ["\u3164", "\u115f", "\u1160", "\uffa0", "\u034f", "\u180b"])
def test_a_character_that_shows_nothing_does_not_make_another_name(blank: str) -> None:
    assert name_key(f"Acme{blank} Corp") == name_key("Acme Corp")


def test_an_invisible_character_between_a_letter_and_its_accent_makes_no_other_name() -> None:
    assert name_key("Cafe\u200d\u0301") == name_key("Café")


@pytest.mark.parametrize("other", ["Acme Corp 2", "AcmeCorp", "Acme Corp.", "Akme Corp"])
def test_names_that_a_person_tells_apart_have_keys_of_their_own(other: str) -> None:
    assert name_key(other) != name_key("Acme Corp")


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_the_name_as_shown_has_the_key_of_the_name_as_typed(name: str) -> None:
    assert name_key(display_name(name)) == name_key(name)


def test_two_names_of_200_characters_that_differ_at_the_end_get_two_slugs() -> None:
    first, second = ("a" * 199 + end for end in "xy")
    assert slug_for(name_key(first)) != slug_for(name_key(second))
    assert name_digest(first) != name_digest(second)


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_a_slug_is_short_plain_and_never_digits_alone(name: str) -> None:
    slug = slug_for(name_key(name))
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug), slug
    assert len(slug) <= 50
    assert not slug.isdigit(), "digits alone are ids"


@pytest.mark.parametrize("name", AWKWARD_NAMES)
@pytest.mark.parametrize("opaque", [False, True])
def test_a_database_name_fits_an_identifier_and_is_none_of_the_systems(
    name: str, opaque: bool
) -> None:
    database = database_name_for(slug_for(name_key(name)), opaque=opaque)
    assert len(database.encode()) <= MAX_IDENTIFIER_BYTES
    assert re.fullmatch(r"org_[a-z0-9_]+", database), database
    assert not database.startswith(RESERVED_PREFIX)


def test_a_readable_slug_is_the_name_itself() -> None:
    assert slug_for(name_key("Acme Corp")) == "acme-corp"
    assert database_name_for("acme-corp", opaque=False) == "org_acme_corp"


def test_slugs_that_differ_by_a_hyphen_alone_do_not_exist() -> None:
    """`a-b` and `a_b` would share a database name; the key makes them one organization first."""
    assert slug_for(name_key("a_b")) == slug_for(name_key("a-b")) == slug_for(name_key("a--b"))


def test_an_opaque_database_name_tells_nothing_and_is_never_the_same() -> None:
    first, second = (database_name_for("acme-corp", opaque=True) for _ in range(2))
    assert "acme" not in first
    assert first != second


def test_role_names_are_opaque_and_fit_an_identifier() -> None:
    first, second = role_name(), role_name()
    assert re.fullmatch(r"orgrole_[0-9a-f]{16}", first)
    assert first != second


def test_a_variant_of_the_longest_slug_is_a_slug_still() -> None:
    variant = slug_variant("x" * 50)
    assert len(variant) <= 50
    assert re.fullmatch(r"x+-[0-9a-f]{6}", variant)


@pytest.mark.parametrize(
    "other", ["acme\u2212corp", "acme\u2043corp", "Acme\u3164 Corp", "ACME\u034f CORP"]
)
def test_what_looks_like_acme_corp_is_acme_corp(other: str) -> None:
    assert name_key(other) == name_key("Acme Corp")


def test_a_capital_i_with_a_dot_is_an_i() -> None:
    assert name_key("İstanbul") == name_key("istanbul")


@pytest.mark.parametrize(
    "spellings",
    [
        ("Işık", "IŞIK", "ışık", "işik", "İŞİK"),
        *((letter, letter.upper(), letter.title(), letter.lower()) for letter in "ᾷῇῷᾳῼΐΣς"),
        ("ᾷ", "\u1fbc\u0342", "\u0391\u0345\u0342", "\u0391\u0342\u0345"),
        ("Straße", "STRASSE", "straẞe"),
        ("ị\u0307x", "ịx"),
    ],
)
def test_letters_that_are_one_in_another_case_make_one_name(spellings: tuple[str, ...]) -> None:
    assert len({name_key(spelling) for spelling in spellings}) == 1
    assert len({email_key(f"{spelling}@test.com") for spelling in spellings}) == 1


def test_no_letter_of_any_script_has_another_key_in_another_case() -> None:
    for letter in map(chr, range(0x20, 0x20000)):
        if unicodedata.category(letter)[0] == "L":
            key = folded(letter)
            assert folded(key) == key, hex(ord(letter))
            for other in (letter.upper(), letter.lower(), letter.title()):
                assert folded(other) == key, hex(ord(letter))


@pytest.mark.parametrize("between", ["\u00ad", "\u200b", "\u200d"])
def test_nothing_visible_between_a_letter_and_its_accent_makes_another_name(between: str) -> None:
    assert name_key(f"Cafe{between}\u0301") == name_key("Café")
