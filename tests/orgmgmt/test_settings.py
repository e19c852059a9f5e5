"""Settings from the environment: where they are read, and how a wrong one stops the start."""

import os
from pathlib import Path

import pytest

from tests import processes

from .environment import COMPLETE, KEY, OTHER_SECRET, ROOT, SECRET, refusal, settings_of

pytestmark = pytest.mark.pure

GUNICORN = ("-m", "gunicorn", "-c", "orgmgmt/gunicorn.py", "orgmgmt.wsgi")
WRONG: list[tuple[dict[str, str], list[str]]] = [
    ({"SECRET_KEY": ""}, ["SECRET_KEY is missing", "openssl rand", "make run"]),
    ({"SECRET_KEY": "your-super-secret-key-change-this-in-production"}, ["well-known"]),
    ({"SECRET_KEY": "django-insecure-" + SECRET}, ["SECRET_KEY", "well-known"]),
    ({"SECRET_KEY": "short1!xyzQW"}, ["SECRET_KEY", "too weak"]),
    ({"SECRET_KEY": "ab" * 40}, ["SECRET_KEY", "too weak"]),
    ({"SIGNING_KEYS": f"{SECRET},short"}, ["SIGNING_KEYS", "too weak"]),
    ({"SECRET_KEY_FALLBACKS": "change-me" * 8}, ["SECRET_KEY_FALLBACKS", "well-known"]),
    ({"CREDENTIAL_KEYS": ""}, ["CREDENTIAL_KEYS is missing", "Fernet.generate_key"]),
    ({"CREDENTIAL_KEYS": f"{KEY},nonsense"}, ["CREDENTIAL_KEYS has an invalid key"]),
    ({"CREDENTIAL_KEYS": "é" * 44}, ["CREDENTIAL_KEYS has an invalid key"]),
    ({"BACKUP_ENCRYPTION_KEYS": "AGE-SECRET-KEY-1X"}, ["BACKUP_ENCRYPTION_KEYS has an invalid"]),
    ({"CREDENTIAL_KEYS": "A" * 43 + "="}, ["CREDENTIAL_KEYS contains a guessable key"]),
    ({"DEBUG": "maybe"}, ["DEBUG is 'maybe'", "on or off"]),
    ({"PORT": "http"}, ["PORT is 'http'", "whole number"]),
    ({"PORT": "-1"}, ["PORT is '-1'"]),
    ({"PORT": "²"}, ["PORT is '²'"]),
    ({"WEB_THREADS": "0"}, ["WEB_THREADS is '0'", "from 1 to 1000"]),
    ({"ACCESS_TOKEN_EXPIRE_MINUTES": "1.5"}, ["ACCESS_TOKEN_EXPIRE_MINUTES"]),
    ({"ACCESS_TOKEN_EXPIRE_MINUTES": "9" * 30}, ["ACCESS_TOKEN_EXPIRE_MINUTES"]),
    ({"ALGORITHM": "none"}, ["ALGORITHM is 'none'", "HS256"]),
    ({"ORG_SIGNUP": "closed"}, ["ORG_SIGNUP is 'closed'", "open, staff, off"]),
    ({"ORG_PUBLIC_LOOKUP": "some"}, ["Set it to one of: on, masked, off."]),
    ({"HSTS_PRELOAD": "on"}, ["Set HSTS_INCLUDE_SUBDOMAINS=on too"]),
    ({"THROTTLE_SIGNUP": "often"}, ["THROTTLE_SIGNUP is 'often'", "100/min", "off"]),
    ({"CACHE_URL": "memcache://:ThePassw0rd@h:11211"}, ["CACHE_URL", "redis://"]),
    ({"CACHE_URL": "redis://:ThePassw0rd@h:port/0"}, ["CACHE_URL cannot be parsed"]),
    ({"CACHE_URL": "redis://:ThePassw0rd@/0"}, ["CACHE_URL cannot be parsed"]),
    ({"CACHE_URL": "redis://:change-me@h/0"}, ["CACHE_URL is still an example's placeholder"]),
    # Without DATA_DIR a running `make run` of this checkout would be used.
    (
        {"DATABASE_URL": "", "DATA_DIR": "/nowhere"},
        ["No database is configured", "DATABASE_URL", "make run"],
    ),
    ({"DATABASE_URL": "sqlite:///db.sqlite3"}, ["DATABASE_URL", "SQLite", "postgres://"]),
    ({"DATABASE_URL": "postgres://u:ThePassw0rd@h:port/n"}, ["DATABASE_URL cannot be parsed"]),
    ({"DATABASE_URL": "postgres://u:ThePassw0rd@h"}, ["DATABASE_URL names no database"]),
    # The URL does not lead elsewhere after its question mark.
    *(
        (
            {"DATABASE_URL": f"postgres://u:ThePassw0rd@h/n?{option}=elsewhere"},
            [f"DATABASE_URL has unknown query parameters: {option}."],
        )
        for option in ("dbname", "host", "service")
    ),
    ({"DATABASE_URL": "", "MASTER_DB_HOST": "h", "MASTER_DB_PORT": "x"}, ["MASTER_DB_PORT"]),
    (
        {"DATABASE_URL": "", "MASTER_DB_HOST": "h", "MASTER_DB_SSLMODE": "maybe"},
        ["MASTER_DB_SSLMODE", "verify-full"],
    ),
    ({"SECRET_KEY": "", "SECRET_KEY_FILE": "/nowhere/secret"}, ["SECRET_KEY_FILE"]),
    ({"SECURITY_CONTACT": "security@example.com"}, ["SECURITY_CONTACT contains 'security@"]),
    ({"SECURITY_CONTACT": "http://example.com"}, ["SECURITY_CONTACT contains 'http://"]),
]


def test_a_wrong_setting_stops_with_one_sentence_and_no_secret() -> None:
    wrong = {}
    for changes, words in WRONG:
        sentence = refusal(**changes)
        told = {"ThePassw0rd", SECRET, KEY, changes.get("SECRET_KEY") or SECRET}
        if [word for word in words if word not in sentence] or [s for s in told if s in sentence]:
            wrong[str(changes)] = sentence
    assert wrong == {}


def run(*command: str, **environment: str) -> tuple[int, str]:
    """Exit code and standard error of a process with only this environment."""
    base = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **COMPLETE}
    done = processes.run(*command, cwd=ROOT, env=base | environment)
    return done.returncode, done.stderr


def test_manage_py_and_gunicorn_print_the_sentence_and_nothing_else() -> None:
    code, said = run("manage.py", "check", ALLOWED_HOSTS="api.example")
    assert code == 0, said
    expected = "Configuration: PORT is 'x'. Set it to a whole number from 1 to 65535.\n"
    for command in (("manage.py", "check"), GUNICORN):
        assert run(*command, PORT="x") == (1, expected), command


@pytest.mark.parametrize("name", ["SECRET_KEY", "CREDENTIAL_KEYS", "DATABASE_URL"])
def test_a_secret_can_come_from_a_file(tmp_path: Path, name: str) -> None:
    """Whose last newline is no part of it."""
    file = tmp_path / "value"
    file.write_text(f"{COMPLETE[name]}\n")
    made = settings_of(**{name: "", f"{name}_FILE": str(file)})
    assert (made.SECRET_KEY, made.CREDENTIAL_KEYS) == (SECRET, [KEY])
    assert made.DATABASES["default"]["PASSWORD"] == "ThePassw0rd"


def test_a_secret_file_that_is_not_text_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe hush-hush")
    said = refusal(SECRET_KEY="", SECRET_KEY_FILE=str(tmp_path / "key"))
    assert "SECRET_KEY_FILE names a file that cannot be read as text" in said
    assert "hush" not in said


def test_the_names_of_the_first_edition_configure_the_master() -> None:
    entry = settings_of(
        DATABASE_URL="",
        MASTER_DB_HOST="db.example",
        MASTER_DB_PORT="6000",
        MASTER_DB_USER="someone",
        MASTER_DB_PASSWORD="$ecret",
        MASTER_DB_SSLMODE="verify-full",
    ).DATABASES["default"]
    found = [entry[name] for name in ("HOST", "PORT", "NAME", "USER", "PASSWORD")]
    # A value that begins with a dollar sign is itself.
    assert found == ["db.example", "6000", "master_org_db", "someone", "$ecret"]
    assert entry["OPTIONS"] == {"sslmode": "verify-full"}


def test_tls_settings_apply_to_a_url_and_the_url_wins() -> None:
    url, mode = COMPLETE["DATABASE_URL"], "verify-full"
    beside = settings_of(MASTER_DB_SSLMODE=mode).DATABASES["default"]
    assert beside["OPTIONS"] == {"sslmode": mode}
    made = settings_of(DATABASE_URL=f"{url}?sslmode=require", MASTER_DB_SSLMODE=mode)
    assert made.DATABASES["default"]["OPTIONS"] == {"sslmode": "require"}


def test_the_file_env_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"SECRET_KEY={SECRET}\nPORT=8100\nWEB_THREADS=3\n")
    made = settings_of(tmp_path / ".env", SECRET_KEY="", PORT="8200")
    assert (made.SECRET_KEY, made.PORT, made.WEB_THREADS) == (SECRET, 8200, 3)


def test_a_leftover_development_env_does_not_switch_debug_on(tmp_path: Path) -> None:
    lines = f"DEBUG=on\nSECRET_KEY={'d' * 40}\nPORT=9999\n"
    (tmp_path / "development.env").write_text(lines)
    made = settings_of(DATA_DIR=str(tmp_path))
    assert (made.DEBUG, made.SECRET_KEY, made.PORT) == (False, SECRET, 8000)
    # Nor does it lend its secrets to a configuration that lacks one.
    assert "SECRET_KEY is missing" in refusal(DATA_DIR=str(tmp_path), SECRET_KEY="")


def test_tokens_are_signed_with_signing_keys_or_else_the_secret_key() -> None:
    assert settings_of().SIGNING_KEYS == [SECRET]
    assert settings_of(SECRET_KEY_FALLBACKS=OTHER_SECRET).SIGNING_KEYS == [SECRET, OTHER_SECRET]
    both = f"{OTHER_SECRET}, {SECRET}"
    assert settings_of(SIGNING_KEYS=both).SIGNING_KEYS == [OTHER_SECRET, SECRET]
