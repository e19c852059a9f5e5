"""Tests of JWT signing keys: which key signs, which keys are accepted, and key rotation."""

from typing import Any

import jwt
import pytest
from pytest_django import Settings
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import User
from accounts.signing_keys import key_id
from tests.conftest import Company

from .helpers import assert_refused, bearer, log_in, refresh

OLD, NEW = "old signing key " * 4, "new signing key " * 4
ME = "/api/v1/me/"


def kid(token: str) -> object:
    return jwt.get_unverified_header(token)["kid"]


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_the_first_key_signs_and_the_token_names_it(
    alpha: Company, member: User, settings: Settings
) -> None:
    settings.SIGNING_KEYS = [NEW, OLD]
    for token in log_in(alpha, member):
        assert kid(token) == key_id(NEW)
        jwt.decode(token, NEW, algorithms=["HS256"], audience="organization-management-api")


def test_tokens_outlive_a_key_rotation_and_end_when_their_key_is_removed(
    alpha: Company, member: User, settings: Settings
) -> None:
    settings.SIGNING_KEYS = [OLD]
    access, refresh_token = log_in(alpha, member)
    settings.SIGNING_KEYS = [NEW, OLD]
    assert bearer(access).get(ME).status_code == 200
    renewed = refresh(refresh_token)
    assert renewed.status_code == 200
    assert kid(renewed.json()["access"]) == kid(renewed.json()["refresh"]) == key_id(NEW)
    settings.SIGNING_KEYS = [NEW]
    assert_refused(access)
    assert bearer(renewed.json()["access"]).get(ME).status_code == 200


def test_a_token_that_names_another_key_or_none_is_refused(
    alpha: Company, member: User, settings: Settings
) -> None:
    settings.SIGNING_KEYS = [NEW, OLD]
    claims = claims_of(log_in(alpha, member)[0])
    kids: list[dict[str, Any]] = [{}, *({"kid": each} for each in ("", "0" * 16, "../key"))]
    for headers in (*kids, {"kid": key_id(NEW)}):
        assert_refused(jwt.encode(claims, OLD, algorithm="HS256", headers=headers))


@pytest.mark.pure
def test_a_key_id_reveals_nothing_of_the_key() -> None:
    assert len(key_id(OLD)) == 16 and key_id(OLD) != key_id(NEW)
    assert not {OLD[index : index + 4] for index in range(len(OLD) - 3)} & {key_id(OLD)[:4]}


@pytest.mark.pure
def test_simplejwts_own_backend_signs_nothing() -> None:
    with pytest.raises(TypeError):
        str(AccessToken())
