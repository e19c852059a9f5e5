"""Names: keys, slugs and database names."""

import random
import re

import pytest

from accounts.models import email_key
from organizations.naming import (
    MAX_IDENTIFIER_BYTES,
    RESERVED_PREFIX,
    database_name_for,
    display_name,
    name_digest,
    name_digests,
    name_key,
    role_name,
    slug_for,
    slug_variant,
)
from organizations.tenancy.folding import folded

pytestmark = pytest.mark.pure

AWKWARD_NAMES = (
    "Acme Corp",
    "株式会社",
    "Ünïcödé GmbH & Co. KG",
    'O\'Reilly "Q"; DROP DATABASE postgres; --',
    "n?dbname=org_acme_corp",
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


def test_spellings_that_a_person_would_confuse_have_one_key() -> None:
    spellings = (
        ("Acme Corp", "acme-corp", "ACME_CORP", " acme  corp ", "Acme\tCorp", "-Acme Corp-"),
        # Other spaces and hyphens, full width, and characters that show nothing.
        ("Acme Corp", "Acme\u00a0Corp", "Acme\u2014Corp", "acme\u2212corp", "acme\u2043corp"),
        ("Acme Corp", "ＡＣＭＥ＿Corp", "Acme\u00ad Corp", "Acme\u200b Corp", "ACME\u034f CORP"),
        ("Acme Corp", *(f"Acme{blank} Corp" for blank in "\u3164\u115f\u1160\uffa0\u180b\ufe0f")),
        # Between a letter and its accent too.
        ("Café", *(f"Cafe{between}\u0301" for between in ("", "\u00ad", "\u200b", "\u200d"))),
    )
    wrong = {
        spelling
        for first, *others in spellings
        for spelling in others
        if name_key(spelling) != name_key(first) or name_digest(spelling) != name_digest(first)
    }
    assert wrong == set()


def test_case_variants_of_letters_make_one_name_and_one_address() -> None:
    together = (
        ("Işık", "IŞIK", "ışık", "işik", "İŞİK"),
        ("İstanbul", "istanbul"),
        *((letter, letter.upper(), letter.title(), letter.lower()) for letter in "ᾷῇῷᾳῼΐΣς"),
        ("ᾷ", "\u1fbc\u0342", "\u0391\u0345\u0342", "\u0391\u0342\u0345"),
        ("Straße", "STRASSE", "straẞe"),
        ("ị\u0307x", "ịx"),
    )
    wrong = [
        spellings
        for spellings in together
        if len({name_key(spelling) for spelling in spellings}) > 1
        or len({email_key(f"{spelling}@test.com") for spelling in spellings}) > 1
    ]
    assert wrong == []


def test_no_letter_of_any_script_has_another_key_in_another_case() -> None:
    wrong = set()
    for letter in map(chr, range(0x20, 0x20000)):
        cases = {letter, letter.upper(), letter.lower(), letter.title()}
        if len(cases) > 1 and {*map(folded, cases)} != {folded(folded(letter))}:
            wrong.add(letter)
    assert wrong == set()


def test_names_that_a_person_tells_apart_have_keys_of_their_own() -> None:
    names = ("Acme Corp", "Acme Corp 2", "AcmeCorp", "Acme Corp.", "Akme Corp")
    assert len({name_key(name) for name in names}) == len(names)


def test_every_name_gets_a_slug_and_a_database_name_that_fit() -> None:
    wrong = {}
    for name in AWKWARD_NAMES:
        slug = slug_for(name_key(name))
        databases = [database_name_for(slug, opaque=opaque) for opaque in (False, True)]
        fine = (
            name_key(display_name(name)) == name_key(name)
            and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug)
            and len(slug) <= 50
            and not slug.isdigit()  # Digits alone are ids.
            and all(re.fullmatch(r"org_[a-z0-9_]+", each) for each in databases)
            and all(len(each.encode()) <= MAX_IDENTIFIER_BYTES for each in databases)
            and not any(each.startswith(RESERVED_PREFIX) for each in databases)
        )
        if not fine:
            wrong[name] = (slug, databases)
    assert wrong == {}


def test_a_readable_slug_is_the_name_itself() -> None:
    assert slug_for(name_key("Acme Corp")) == "acme-corp"
    assert database_name_for("acme-corp", opaque=False) == "org_acme_corp"
    # They would share a database name; the key makes them one organization first.
    assert slug_for(name_key("a_b")) == slug_for(name_key("a-b")) == slug_for(name_key("a--b"))


def test_long_names_that_differ_only_at_the_end_get_different_slugs() -> None:
    first, second = ("a" * 199 + end for end in "xy")
    assert slug_for(name_key(first)) != slug_for(name_key(second))
    assert name_digest(first) != name_digest(second)


def test_an_opaque_database_name_tells_nothing_and_is_never_the_same() -> None:
    first, second = (database_name_for("acme-corp", opaque=True) for _ in range(2))
    assert "acme" not in first
    assert first != second


def test_role_names_are_opaque_and_fit_an_identifier() -> None:
    first, second = role_name(), role_name()
    assert re.fullmatch(r"orgrole_[0-9a-f]{16}", first)
    assert first != second


def test_a_variant_of_the_longest_slug_is_still_a_slug() -> None:
    variant = slug_variant("x" * 50)
    assert len(variant) <= 50
    assert re.fullmatch(r"x+-[0-9a-f]{6}", variant)


def test_a_name_in_ascii_is_found_by_the_key_of_all_names() -> None:
    """Its digest is computed in a shorter way."""
    draw = random.Random(14)
    printable = [chr(code) for code in range(0x20, 0x7F)] + list("  --__iI")
    for _ in range(20_000):
        name = "".join(draw.choices(printable, k=draw.randint(0, 12)))
        assert name_digests(name) == [name_digest(name)], name
