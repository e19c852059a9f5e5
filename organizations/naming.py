"""Normalises names; makes slugs, database names and role names. Makes no database query."""

import hashlib
import re
import secrets
import unicodedata

from .tenancy.folding import folded

# PostgreSQL silently truncates identifiers at 63 bytes.
MAX_IDENTIFIER_BYTES = 63
DATABASE_PREFIX = "org_"
# The system's own databases; an organization's always starts with DATABASE_PREFIX.
RESERVED_PREFIX = "orgmgmt_"
_MAX_SLUG = 50
_HASH_LENGTH = 10


def display_name(typed: str) -> str:
    """The name for display: single spaces, trimmed, NFC."""
    return " ".join(unicodedata.normalize("NFC", typed).split())


def name_key(name: str) -> str:
    """The key shared by all names that people would confuse. May be empty.

    Ignores case, Unicode compatibility forms and invisible characters; spaces, hyphens and
    underscores count as the same: `Acme Corp`, `acme-corp` and `ＡＣＭＥ＿Corp` have one key.
    """
    return _key(folded(_visible(name)))


def _visible(name: str) -> str:
    # Between a letter and its accent it would separate them.
    return "".join(character for character in name if not _is_invisible(character))


def _key(text: str) -> str:
    return re.sub(r"-+", "-", "".join(map(_key_character, text))).strip("-")


def _key_before(name: str) -> str:
    """The key of an earlier version, which kept ı and i apart; old rows may have it."""
    text = _visible(name)
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text).casefold()
    return _key(unicodedata.normalize("NFKC", text).replace("i\u0307", "i"))


def _key_character(character: str) -> str:
    category = unicodedata.category(character)
    if (
        category in {"Pd", "Pc"}
        or character in _LIKE_HYPHENS
        or category.startswith("Z")
        or character.isspace()
    ):
        return "-"
    return "" if _is_invisible(character) else character


def name_digest(name: str) -> str:
    """SHA-256 of the name's key, in hexadecimal."""
    return _digest(name_key(name))


def name_digests(name: str) -> list[str]:
    """The digests by which this name's row can be found, the likeliest first.

    If two organizations' names became equal when ı became an i, the younger keeps its old digest,
    and is found by its own spelling before the other.
    """
    if name.isascii() and name.isprintable():
        # Both keys are the same, and lookups are frequent.
        return [_digest(re.sub(r"[-_ ]+", "-", name.lower()).strip("-"))]
    return list(dict.fromkeys((_digest(_key_before(name)), name_digest(name))))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


_LIKE_HYPHENS = frozenset("\u2043\u2212")  # hyphen bullet, minus sign
# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt) except format characters (Cf):
# fillers, joiners, selectors. And the braille pattern without dots.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def _is_invisible(character: str) -> bool:
    return character in _INVISIBLE or unicodedata.category(character) == "Cf"


def slug_for(key: str) -> str:
    """An ASCII slug for a name's key: the key itself if possible, else with a hash appended.

    At most 50 characters of a-z, 0-9 and hyphens, never only digits (those are ids).
    """
    if len(key) <= _MAX_SLUG and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key) and not key.isdigit():
        return key
    decomposed = unicodedata.normalize("NFKD", key).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^a-z0-9]+", "-", decomposed).strip("-")
    readable = readable[: _MAX_SLUG - _HASH_LENGTH - 1].strip("-")
    digest = hashlib.sha256(key.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{readable}-{digest}" if readable else f"org-{digest}"


def slug_variant(slug: str) -> str:
    """Another slug, for the rare case that a readable name looks like a hashed one."""
    return f"{slug[: _MAX_SLUG - 7].strip('-')}-{secrets.token_hex(3)}"


def database_name_for(slug: str, *, opaque: bool) -> str:
    """`org_` and the slug with underscores, or `org_` and 16 random hexadecimal digits."""
    if opaque:
        return f"{DATABASE_PREFIX}{secrets.token_hex(8)}"
    return DATABASE_PREFIX + slug.replace("-", "_")


def system_database_name(kind: str, *, master: str, tail: str = "") -> str:
    """A name for a database of the system's own: `orgmgmt_spare_`, digits from the master, a tail.

    So two installations on one server do not take each other's. tail: by default 16 random
    hexadecimal digits.
    """
    return f"{system_prefix(kind, master=master)}{tail or secrets.token_hex(8)}"


def system_prefix(kind: str, *, master: str) -> str:
    """The prefix of all names of this kind in the installation with this master database name."""
    return f"{RESERVED_PREFIX}{kind}_{hashlib.sha256(master.encode()).hexdigest()[:6]}_"


# Patterns of our roles' names, for Python and PostgreSQL: organizations', spare databases', and
# templates' tables' owners.
ROLE_PATTERN = rf"^(orgrole|{RESERVED_PREFIX}tables)_[0-9a-f]{{16}}$"


def role_name() -> str:
    """A random role name, since any role can read all role names."""
    return f"orgrole_{secrets.token_hex(8)}"
