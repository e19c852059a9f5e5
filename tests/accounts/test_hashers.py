"""Tests of password hashers."""

import re
import secrets

import pytest
from django.contrib.auth.hashers import (
    PBKDF2PasswordHasher,
    identify_hasher,
    make_password,
    verify_password,
)

from accounts.hashers import Argon2idHasher
from accounts.services import hash_password
from tests.conftest import PASSWORD

pytestmark = pytest.mark.pure
REAL = {name: getattr(Argon2idHasher, name) for name in ("memory_cost", "time_cost")}


@pytest.fixture(autouse=True)
def _real_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REAL.items():
        monkeypatch.setattr(Argon2idHasher, name, value)


def test_a_hash_is_argon2id_with_19_mib_two_passes_and_one_lane() -> None:
    encoded = hash_password(PASSWORD)
    found = re.match(r"argon2\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$", encoded)
    assert found is not None, encoded
    assert tuple(map(int, found.groups())) == (19456, 2, 1)
    assert verify_password(PASSWORD, encoded) == (True, False), "it need not be renewed"
    assert verify_password(f"{PASSWORD}!", encoded)[0] is False
    assert hash_password(PASSWORD) != encoded, "the salt repeats"
    assert len(hash_password(secrets.token_urlsafe(768))) <= 255, "it does not fit its column"


def test_a_hash_of_another_kind_verifies_and_must_be_renewed() -> None:
    kinds = {
        "pbkdf2_sha256": PBKDF2PasswordHasher().encode(PASSWORD, "salt", iterations=1),
        "scrypt": make_password(PASSWORD, hasher="scrypt"),
    }
    for kind, encoded in kinds.items():
        assert identify_hasher(encoded).algorithm == kind
        assert verify_password(PASSWORD, encoded) == (True, True), kind
