"""Reads the environment for settings.py: values of each kind, and secrets.

Order, first found wins: the process's environment, `.env` beside manage.py, and for development
`development.env` in DATA_DIR, which `make run` writes. Each name also works as <NAME>_FILE, a file
that holds the value. An invalid value stops the start with one sentence.
"""

import os
import re
from pathlib import Path

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from pyrage import IdentityError, x25519

from . import development

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.FileAwareEnv()
env.read_env(BASE_DIR / ".env")


def text(name: str, *, default: str = "") -> str:
    """The value, or that of <NAME>_FILE without its final newline."""
    try:
        # Not env.str(): it takes a value starting with a dollar sign for another variable.
        value: str = env.ENVIRON.get(name, default)
    except (OSError, UnicodeError):
        # `from None`: the undecodable bytes may be the secret.
        raise ImproperlyConfigured(
            f"{name}_FILE names a file that cannot be read as text."
        ) from None
    return value.rstrip("\r\n")


def boolean(name: str, *, default: bool) -> bool:
    """on/off, true/false, yes/no, 1/0; any other value stops the start."""
    raw = text(name).strip().lower()
    if raw in {"on", "true", "yes", "1"}:
        return True
    if raw in {"off", "false", "no", "0"}:
        return False
    if raw:
        raise ImproperlyConfigured(f"{name} is {raw!r}. Set it to on or off.")
    return default


def number(name: str, *, default: int, at_most: int, at_least: int = 1) -> int:
    """A whole number from `at_least` to `at_most`; any other value stops the start."""
    raw = text(name).strip() or str(default)
    plausible = raw.isascii() and raw.isdigit() and len(raw) < 12
    if not plausible or not at_least <= int(raw) <= at_most:
        raise ImproperlyConfigured(
            f"{name} is {raw[:40]!r}. Set it to a whole number from {at_least} to {at_most}."
        )
    return int(raw)


def choice(name: str, *, default: str, among: tuple[str, ...]) -> str:
    """One of a few words; any other value stops the start. on/off also have their synonyms."""
    raw = text(name).strip() or default
    if {"on", "off"} <= set(among):
        raw = {"true": "on", "yes": "on", "1": "on", "false": "off", "no": "off", "0": "off"}.get(
            raw.lower(), raw
        )
    if raw not in among:
        raise ImproperlyConfigured(f"{name} is {raw!r}. Set it to one of: {', '.join(among)}.")
    return raw


def rate(name: str, *, default: str = "off", development: str = "off") -> str | None:
    """A rate such as `100/min`, or None for `off`; any other value stops the start.

    development: the default with DEBUG on.
    """
    raw = text(name).strip() or (development if DEBUG else default)
    if raw == "off":
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,8}/(s|sec|m|min|h|hour|d|day)", raw):
        raise ImproperlyConfigured(
            f"{name} is {raw[:40]!r}. Set it to a rate like 100/min, or off."
        )
    return raw


def names(name: str, *, default: str = "") -> list[str]:
    """A comma-separated list."""
    return [part.strip() for part in text(name, default=default).split(",") if part.strip()]


def origins(name: str) -> list[str]:
    """Comma-separated origins as a browser sends them; any other value stops the start."""
    found = names(name)
    for origin in found:
        shaped = re.fullmatch(
            r"(https?)://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?", origin
        )
        port = int(shaped[2] or 0) if shaped else 0
        if not shaped or port > 65_535 or (shaped[1], port) in (("http", 80), ("https", 443)):
            raise ImproperlyConfigured(
                f"{name} has {origin[:80]!r}. Write each origin as https://app.example.com: in "
                "lower case, with a port only if it is not the default, and with nothing after it. "
                "Patterns are not supported: name each origin."
            )
    return found


def contacts(name: str) -> list[str]:
    """Comma-separated addresses as RFC 9116 wants them; any other value stops the start."""
    found = names(name)
    for contact in found:
        if not re.fullmatch(r"(mailto:[^@\s]+@[^@\s]+|https://\S+|tel:\+?[0-9.()-]+)", contact):
            raise ImproperlyConfigured(
                f"{name} contains {contact[:80]!r}. Write mailto:security@example.com, an https:// "
                "address, or tel: and a number."
            )
    return found


def addresses(name: str) -> list[str]:
    """Comma-separated e-mail addresses; any other value stops the start."""
    found = names(name)
    for address in found:
        if not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", address):
            raise ImproperlyConfigured(
                f"{name} contains {address[:80]!r}. Write addresses such as ops@example.com."
            )
    return found


# --- Development or production ------------------------------------------------------------------
DATA_DIR = Path(text("DATA_DIR") or BASE_DIR / ".data").absolute()
DATABASE_CONFIGURED = any(
    text(name)
    for name in (
        "DATABASE_URL",
        *(f"MASTER_DB_{part}" for part in ("HOST", "PORT", "NAME", "USER")),
    )
)
# `make run` sets it: first create what a checkout lacks, its own keys and an embedded server.
DEVELOPMENT_SETUP = boolean("DEVELOPMENT_SETUP", default=False)
_DEBUG_WANTED = boolean("DEBUG", default=DEVELOPMENT_SETUP)
if DEVELOPMENT_SETUP and _DEBUG_WANTED:
    development.ensure_environment(DATA_DIR)
# With a database configured, a leftover `development.env` must not switch DEBUG on.
if _DEBUG_WANTED or (not DATABASE_CONFIGURED and boolean("DEBUG", default=True)):
    _development_file = DATA_DIR / development.FILE_NAME
    if _development_file.exists() and not os.access(_development_file, os.R_OK):
        raise ImproperlyConfigured(
            f"{_development_file} belongs to {_development_file.owner()}, and you may not read it. "
            "Run as that user, or set DATA_DIR to another folder."
        )
    env.read_env(_development_file)

DEBUG = boolean("DEBUG", default=False)

# --- Secrets ------------------------------------------------------------------------------------
_WELL_KNOWN = (
    "your-super-secret-key-change-this-in-production",
    "change-me",
    "changeme",
    "change-this",
    "change_me",
    "django-insecure",
    "your-secret-key",
    "your_secret_key",
    "replace-me",
    "insecure",
    "secretkey",
)


_PLACEHOLDERS = frozenset({"change-me", "changeme", "change_me", "replace-me", "your-password"})


_RANDOM_CHARACTERS = "50 random characters or more, for example from `openssl rand -base64 48`"


def signing_secret() -> str:
    """SECRET_KEY, or an error that says what to set."""
    secret: str = text("SECRET_KEY")
    if not secret:
        raise ImproperlyConfigured(
            f"SECRET_KEY is missing. Set SECRET_KEY to {_RANDOM_CHARACTERS}; for development "
            "use `make run`."
        )
    refuse_weak("SECRET_KEY", secret)
    return secret


def refuse_weak(name: str, secret: str) -> None:
    """With DEBUG off, stop the start if the signing key is guessable."""
    how = f"Set {name} to {_RANDOM_CHARACTERS}"
    if DEBUG:
        return
    if any(word in secret.lower() for word in _WELL_KNOWN):
        raise ImproperlyConfigured(f"{name} is a well-known example value. {how}.")
    if len(secret) < 32 or len(set(secret)) < 8:
        raise ImproperlyConfigured(f"{name} is too weak to sign tokens. {how}.")


def signing_secrets(name: str, *, default: tuple[str, ...] = ()) -> list[str]:
    """A comma-separated list of secrets, none of them weak."""
    secrets = names(name)
    for secret in secrets:
        refuse_weak(name, secret)
    return secrets or list(default)


def sealing_keys() -> list[str]:
    """CREDENTIAL_KEYS: Fernet keys; the first encrypts, all decrypt."""
    how = (
        "Set CREDENTIAL_KEYS to the output of `python -c 'from cryptography.fernet import Fernet; "
        "print(Fernet.generate_key().decode())'`"
    )
    keys = names("CREDENTIAL_KEYS")
    if not keys:
        raise ImproperlyConfigured(
            f"CREDENTIAL_KEYS is missing. {how}, and keep it safe: without it the organizations' "
            "database passwords cannot be decrypted. For development use `make run`."
        )
    for key in keys:
        try:
            Fernet(key)
        except ValueError as error:
            raise ImproperlyConfigured(f"CREDENTIAL_KEYS has an invalid key. {how}.") from error
        if not DEBUG and len(set(key)) < 12:
            raise ImproperlyConfigured(f"CREDENTIAL_KEYS contains a guessable key. {how}.")
    return keys


def backup_keys() -> list[str]:
    """BACKUP_ENCRYPTION_KEYS: age's secret keys; the first encrypts, all decrypt."""
    keys = names("BACKUP_ENCRYPTION_KEYS")
    for key in keys:
        try:
            x25519.Identity.from_str(key)
        except IdentityError:
            # `from None`: whatever it says about the key.
            raise ImproperlyConfigured(
                "BACKUP_ENCRYPTION_KEYS has an invalid key. Make one with age-keygen, or with "
                "`python -c 'from pyrage import x25519; print(x25519.Identity.generate())'`."
            ) from None
    return keys


def refuse_placeholder(name: str, password: str) -> None:
    """With DEBUG off, stop the start if an example was copied and not filled in."""
    if not DEBUG and password.lower() in _PLACEHOLDERS:
        raise ImproperlyConfigured(
            f"{name} is still an example's placeholder. Set it to the database role's password."
        )
