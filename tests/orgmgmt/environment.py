"""Loads the settings again with a given environment, in this process."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environ
import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

import orgmgmt

ROOT = Path(__file__).resolve().parents[2]
_READERS = ("env", "connections", "settings")
SECRET = "kX8-wq2LhP0zR5vT7yB3nM9cF1gJ4dS6aE"
OTHER_SECRET = "Yq3+t8LkPz0wVb5RmXn1cJd7HsGf2aEo"
KEY = Fernet.generate_key().decode()
# What production needs, and no more.
COMPLETE = {
    "SECRET_KEY": SECRET,
    "CREDENTIAL_KEYS": KEY,
    "DATABASE_URL": "postgres://someone:ThePassw0rd@db.example:5433/master_org_db",
}


def settings_of(dotenv: Path | None = None, /, **changes: str) -> Any:
    """Load orgmgmt.settings with a complete configuration and these changes.

    An empty value takes a setting away. dotenv: what is read in place of `.env`.
    """
    given = {name: value for name, value in (COMPLETE | changes).items() if value}
    with pytest.MonkeyPatch.context() as patch, _unloaded():
        read_env, fresh = environ.FileAwareEnv.read_env, type(environ.FileAwareEnv.ENVIRON)

        def read(path: Path) -> None:
            if path != ROOT / ".env":
                read_env(path)
            elif dotenv is not None:
                read_env(dotenv)

        patch.setattr(environ.FileAwareEnv, "ENVIRON", fresh(env=given))
        patch.setattr(environ.FileAwareEnv, "read_env", staticmethod(read))
        return importlib.import_module("orgmgmt.settings")


def refusal(**changes: str) -> str:
    """The sentence with which this configuration stops the start."""
    with pytest.raises(ImproperlyConfigured) as caught:
        settings_of(**changes)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith("."), sentence
    return sentence


@contextmanager
def _unloaded() -> Iterator[None]:
    """Load the modules that read the environment again during the block, and restore them."""
    kept = {name: sys.modules.pop(f"orgmgmt.{name}", None) for name in _READERS}
    try:
        yield
    finally:
        for name, module in kept.items():
            sys.modules.pop(f"orgmgmt.{name}", None)
            if module is not None:
                sys.modules[f"orgmgmt.{name}"] = module
                setattr(orgmgmt, name, module)
