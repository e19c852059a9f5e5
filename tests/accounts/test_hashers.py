"""How passwords are hashed."""

import re
import secrets

import pytest
from django.contrib.auth.hashers import identify_hasher, make_password, verify_password

from accounts.hashers import Argon2idHasher
from accounts.services import hash_password

REAL = {name: getattr(Argon2idHasher, name) for name in ("memory_cost", "time_cost")}


@pytest.fixture(autouse=True)
def _real_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REAL.items():
        monkeypatch.setattr(Argon2idHasher, name, value)


def test_a_hash_is_argon2id_with_19_mib_two_passes_and_one_lane() -> None:
    encoded = hash_password("correct horse battery")
    found = re.match(r"argon2\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$", encoded)
    assert found is not None, encoded
    assert tuple(map(int, found.groups())) == (19456, 2, 1)


def test_a_hash_fits_its_column() -> None:
    assert len(hash_password(secrets.token_urlsafe(768))) <= 255


def test_the_same_password_is_hashed_with_another_salt_each_time() -> None:
    assert hash_password("correct horse battery") != hash_password("correct horse battery")


def test_a_hash_of_ours_verifies_and_need_not_be_renewed() -> None:
    encoded = hash_password("correct horse battery")
    assert verify_password("correct horse battery", encoded) == (True, False)
    assert verify_password("correct horse batterY", encoded)[0] is False


def test_a_hash_of_another_kind_verifies_and_must_be_renewed() -> None:
    for kind in ("pbkdf2_sha256", "scrypt"):
        encoded = make_password("correct horse battery", hasher=kind)
        assert identify_hasher(encoded).algorithm == kind
        assert verify_password("correct horse battery", encoded) == (True, True), kind
