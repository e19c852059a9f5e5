"""What the environment can say, right and wrong. Each start is a process of its own, in a copy of
the program, so that no .env of a developer's is read."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from tests import processes

ROOT = Path(__file__).resolve().parent.parent.parent
SECRET = "kX8-wq2LhP0zR5vT7yB3nM9cF1gJ4dS6aE"
KEY = Fernet.generate_key().decode()
URL = "postgres://someone:ThePassw0rd@db.example:5433/master_org_db"
# What production needs, and no more.
OTHER_SECRET = "Yq3+t8LkPz0wVb5RmXn1cJd7HsGf2aEo"
COMPLETE = {"SECRET_KEY": SECRET, "CREDENTIAL_KEYS": KEY, "DATABASE_URL": URL}
# Whatever apps there are: every package beside manage.py but the tests.
PACKAGES = sorted({file.parent.name for file in ROOT.glob("*/__init__.py")} - {"tests"})
PROGRAM = "import json; from django.conf import settings as s; print(json.dumps({expression}))"


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    code: int
    out: str
    err: str

    def sentence(self) -> str:
        """The one line with which a wrong configuration stops."""
        assert self.code == 1, f"exit code {self.code}: {self.err}"
        assert self.out == "", self.out
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("Configuration: "), self.err
        assert "Traceback" not in self.err
        assert lines[0].endswith("."), self.err
        return lines[0]


@dataclass(frozen=True)
class Checkout:
    """A copy of the program."""

    folder: Path

    def run(self, *command: str, **environment: str) -> Outcome:
        """Run Python with an environment that holds nothing else."""
        done = processes.run(
            *command,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment},
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def check(self, **environment: str) -> Outcome:
        return self.run("manage.py", "check", **environment)

    def value(self, expression: str, **environment: str) -> Any:
        """A setting, as the environment makes it; `s` are the settings."""
        environment = {"DJANGO_SETTINGS_MODULE": "orgmgmt.settings", **environment}
        done = self.run("-c", PROGRAM.format(expression=expression), **environment)
        assert done.code == 0, done.err
        return json.loads(done.out)

    def write(self, name: str, text: str) -> str:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return str(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # Another file system.
        shutil.copy2(source, target)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            copy_function=_link,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy2(ROOT / "manage.py", tmp_path)
    return Checkout(tmp_path)


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in COMPLETE.items() if key != name}


def test_a_complete_configuration_passes_the_check(checkout: Checkout) -> None:
    done = checkout.check(**COMPLETE, ALLOWED_HOSTS="api.example")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SECRET_KEY": ""}, ["SECRET_KEY is missing", "openssl rand", "make run"]),
        ({"SECRET_KEY": "your-super-secret-key-change-this-in-production"}, ["well-known"]),
        ({"SECRET_KEY": "change-me" * 8}, ["SECRET_KEY", "well-known"]),
        ({"SECRET_KEY": "django-insecure-" + SECRET}, ["SECRET_KEY", "well-known"]),
        ({"SECRET_KEY": "short1!xyzQW"}, ["SECRET_KEY", "too weak"]),
        ({"SECRET_KEY": "ab" * 40}, ["SECRET_KEY", "too weak"]),
        ({"SIGNING_KEYS": f"{SECRET},short"}, ["SIGNING_KEYS", "too weak"]),
        ({"SECRET_KEY_FALLBACKS": "change-me" * 8}, ["SECRET_KEY_FALLBACKS", "well-known"]),
        ({"CREDENTIAL_KEYS": ""}, ["CREDENTIAL_KEYS is missing", "Fernet.generate_key"]),
        ({"CREDENTIAL_KEYS": "nonsense"}, ["CREDENTIAL_KEYS has an invalid key"]),
        ({"CREDENTIAL_KEYS": f"{KEY},nonsense"}, ["CREDENTIAL_KEYS has an invalid key"]),
        ({"CREDENTIAL_KEYS": "é" * 44}, ["CREDENTIAL_KEYS has an invalid key"]),
        ({"CREDENTIAL_KEYS": "A" * 43 + "="}, ["CREDENTIAL_KEYS contains a guessable key"]),
        ({"DEBUG": "maybe"}, ["DEBUG is 'maybe'", "on or off"]),
        ({"HTTPS_ONLY": "2"}, ["HTTPS_ONLY is '2'"]),
        ({"PORT": "http"}, ["PORT is 'http'", "whole number"]),
        ({"PORT": "-1"}, ["PORT is '-1'"]),
        ({"PORT": "²"}, ["PORT is '²'"]),
        ({"WEB_THREADS": "0"}, ["WEB_THREADS is '0'", "from 1 to 1000"]),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "1.5"}, ["ACCESS_TOKEN_EXPIRE_MINUTES"]),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "9" * 30}, ["ACCESS_TOKEN_EXPIRE_MINUTES"]),
        ({"ALGORITHM": "none"}, ["ALGORITHM is 'none'", "HS256"]),
        ({"ORG_DATABASE_NAMES": "secret"}, ["ORG_DATABASE_NAMES", "readable, opaque"]),
        ({"LOG_LEVEL": "LOUD"}, ["LOG_LEVEL"]),
        ({"THROTTLE_SIGNUP": "often"}, ["THROTTLE_SIGNUP is 'often'", "100/min", "off"]),
        ({"THROTTLES": "sometimes"}, ["THROTTLES is 'sometimes'", "on or off"]),
        ({"ORG_SIGNUP": "closed"}, ["ORG_SIGNUP is 'closed'", "open, staff, off"]),
        ({"LOGIN_FREE_FAILURES": "0"}, ["LOGIN_FREE_FAILURES is '0'", "from 1 to 100"]),
        ({"CACHE_URL": "memcache://:ThePassw0rd@h:11211"}, ["CACHE_URL", "redis://"]),
        ({"CACHE_URL": "redis://:ThePassw0rd@h:port/0"}, ["CACHE_URL cannot be parsed"]),
        ({"CACHE_URL": "redis://:ThePassw0rd@/0"}, ["CACHE_URL cannot be parsed"]),
        ({"CACHE_URL": "redis://:change-me@h/0"}, ["CACHE_URL is still an example's placeholder"]),
        ({"DATABASE_URL": "sqlite:///db.sqlite3"}, ["DATABASE_URL", "SQLite", "postgres://"]),
        ({"DATABASE_URL": "mysql://u:ThePassw0rd@h/n"}, ["DATABASE_URL", "PostgreSQL"]),
        ({"DATABASE_URL": "ThePassw0rd"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgres://u:ThePassw0rd@h:port/n"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgres://u:ThePassw0rd@h"}, ["DATABASE_URL names no database"]),
        ({"DATABASE_URL": "", "MASTER_DB_HOST": "h", "MASTER_DB_PORT": "x"}, ["MASTER_DB_PORT"]),
        (
            {"DATABASE_URL": "", "MASTER_DB_HOST": "h", "MASTER_DB_SSLMODE": "maybe"},
            ["MASTER_DB_SSLMODE", "verify-full"],
        ),
        ({"DATABASE_URL": ""}, ["No database is configured", "DATABASE_URL", "make run"]),
        ({"SECRET_KEY": "", "SECRET_KEY_FILE": "/nowhere/secret"}, ["SECRET_KEY_FILE"]),
        ({"DATABASE_URL": "", "DATABASE_URL_FILE": "/nowhere/url"}, ["DATABASE_URL_FILE"]),
    ],
    ids=lambda value: ",".join(value)[:40] if isinstance(value, dict) else "",
)
def test_a_wrong_configuration_stops_with_one_sentence(
    checkout: Checkout, changes: dict[str, str], words: list[str]
) -> None:
    environment = {name: value for name, value in {**COMPLETE, **changes}.items() if value}
    sentence = checkout.check(**environment).sentence()
    for word in words:
        assert word in sentence, sentence
    for secret in ("ThePassw0rd", SECRET, KEY, *changes.get("SECRET_KEY", "").split()):
        assert secret not in sentence, "it tells a secret"


def test_nothing_at_all_stops_with_a_sentence_that_names_make_run(checkout: Checkout) -> None:
    assert "make run" in checkout.check().sentence()


@pytest.mark.parametrize("name", sorted(COMPLETE))
def test_a_setting_can_come_from_a_file(checkout: Checkout, name: str) -> None:
    file = checkout.write("secrets/value", COMPLETE[name])
    environment = {**without(name), f"{name}_FILE": file}
    expected = {
        "SECRET_KEY": ("s.SECRET_KEY", SECRET),
        "CREDENTIAL_KEYS": ("s.CREDENTIAL_KEYS", [KEY]),
        "DATABASE_URL": ("s.DATABASES['default']['PASSWORD']", "ThePassw0rd"),
    }
    expression, value = expected[name]
    assert checkout.value(expression, **environment) == value


def test_the_newline_that_ends_a_file_is_no_part_of_the_secret(checkout: Checkout) -> None:
    file = checkout.write("secrets/password", "ThePassw0rd\n")
    environment = {**without("DATABASE_URL"), "MASTER_DB_HOST": "db.example"}
    password = checkout.value(
        "s.DATABASES['default']['PASSWORD']", **environment, MASTER_DB_PASSWORD_FILE=file
    )
    assert password == "ThePassw0rd"


def test_the_names_of_the_first_edition_configure_the_master(checkout: Checkout) -> None:
    environment = without("DATABASE_URL") | {
        "MASTER_DB_HOST": "db.example",
        "MASTER_DB_PORT": "6000",
        "MASTER_DB_USER": "someone",
        "MASTER_DB_PASSWORD": "ThePassw0rd",
        "MASTER_DB_SSLMODE": "verify-full",
    }
    entry = checkout.value("s.DATABASES['default']", **environment)
    found = [entry[name] for name in ("HOST", "PORT", "NAME", "USER", "PASSWORD")]
    assert found == ["db.example", "6000", "master_org_db", "someone", "ThePassw0rd"]
    assert entry["OPTIONS"]["sslmode"] == "verify-full"


def test_the_file_env_is_read_and_the_environment_wins(checkout: Checkout) -> None:
    lines = [f"{name}={value}" for name, value in COMPLETE.items()]
    checkout.write(".env", "\n".join([*lines, "PORT=8100", "WEB_THREADS=3"]) + "\n")
    assert checkout.value("[s.PORT, s.WEB_THREADS, s.DEBUG]", PORT="8200") == [8200, 3, False]


def test_half_of_a_processs_threads_are_one_organizations_at_most(checkout: Checkout) -> None:
    share = "[s.ORG_MAX_THREADS, s.ORG_CONNECTION_LIMIT]"
    for threads, found in (("1", [1, 7]), ("5", [2, 9]), ("8", [4, 13])):
        assert checkout.value(share, **COMPLETE, WEB_THREADS=threads) == found


def test_production_is_the_default(checkout: Checkout) -> None:
    expression = (
        "[s.DEBUG, s.SECURE_SSL_REDIRECT, s.SESSION_COOKIE_SECURE, s.ALLOWED_HOSTS, "
        "s.SIMPLE_JWT['ALGORITHM'], s.SIMPLE_JWT['ACCESS_TOKEN_LIFETIME'].total_seconds()]"
    )
    assert checkout.value(expression, **COMPLETE) == [False, True, True, [], "HS256", 1800.0]


def test_a_development_env_left_behind_does_not_switch_debug_on(checkout: Checkout) -> None:
    checkout.write(".data/development.env", f"DEBUG=on\nSECRET_KEY={'d' * 40}\nPORT=9999\n")
    assert checkout.value("[s.DEBUG, s.SECRET_KEY, s.PORT]", **COMPLETE) == [False, SECRET, 8000]
    # Nor does it lend its secrets to a configuration that lacks one.
    assert "SECRET_KEY is missing" in checkout.check(**without("SECRET_KEY")).sentence()


@pytest.mark.parametrize(
    "changes",
    [{"SECRET_KEY": ""}, {"DATABASE_URL": "sqlite:///x"}, {"PORT": "x"}, {"DATABASE_URL": ""}],
    ids=str,
)
def test_gunicorn_stops_with_the_same_sentence(checkout: Checkout, changes: dict[str, str]) -> None:
    environment = {name: value for name, value in {**COMPLETE, **changes}.items() if value}
    expected = checkout.check(**environment).sentence()
    done = checkout.run(
        "-m", "gunicorn", "-c", "orgmgmt/gunicorn.py", "orgmgmt.wsgi", **environment
    )
    assert done.code != 0
    assert done.err.splitlines() == [expected], done.err


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, [SECRET]),
        ({"SECRET_KEY_FALLBACKS": OTHER_SECRET}, [SECRET, OTHER_SECRET]),
        ({"SIGNING_KEYS": f"{OTHER_SECRET}, {SECRET}"}, [OTHER_SECRET, SECRET]),
    ],
)
def test_tokens_are_signed_with_signing_keys_or_else_the_secret_key(
    checkout: Checkout, changes: dict[str, str], keys: list[str]
) -> None:
    assert checkout.value("s.SIGNING_KEYS", **COMPLETE, **changes) == keys
