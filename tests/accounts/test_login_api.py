"""Logging in, refreshing and logging out over /api/v1/auth/."""

from collections.abc import Callable
from typing import Any

import jwt
from django.conf import settings
from django.test import Client

from accounts import services
from accounts.models import User
from accounts.signing_keys import key_id
from organizations import tenancy
from tests.conftest import PASSWORD, Company

from .helpers import bearer, log_in, send

TOKEN = "/api/v1/auth/token/"
LOGOUT = "/api/v1/auth/logout/"
ME = "/api/v1/me/"


def _log_in(organization: object, email: object, password: object = PASSWORD) -> Any:
    body = {"organization": organization, "email": email, "password": password}
    return send(Client(), "post", TOKEN, body)


def test_a_log_in_answers_with_a_pair_of_tokens(alpha: Company, member: User) -> None:
    response = _log_in(alpha.name, member.email)
    assert response.status_code == 200, response.content
    answer = response.json()
    assert set(answer) == {"access", "refresh", "token_type", "expires_in", "user"}
    assert (answer["token_type"], answer["expires_in"]) == ("bearer", 1800)
    assert answer["user"] == {
        "id": member.pk,
        "email": member.email,
        "is_admin": False,
        "is_active": True,
    }
    assert bearer(answer["access"]).get(ME).json()["id"] == member.pk


def test_the_organization_is_found_by_any_spelling(alpha: Company, member: User) -> None:
    assert alpha.name == "Acme Corp"
    for spelling in ("ACME_CORP", " acme  corp ", "acme-corp"):
        assert _log_in(spelling, member.email).status_code == 200, spelling


def test_an_unknown_organization_is_a_404(member: User) -> None:
    response = _log_in("Nobody Ltd", member.email)
    assert response.status_code == 404, response.content
    assert response.json()["code"] == "organization_not_found"


def test_every_wrong_login_has_the_same_answer(
    alpha: Company, beta: Company, member: User, person: Callable[..., User]
) -> None:
    gone = person()
    with tenancy.override(alpha.tenant):
        services.update_user(gone, is_active=False)
    answers = [
        _log_in(alpha.name, member.email, "wrong password"),
        _log_in(alpha.name, "nobody@test.com"),
        _log_in(alpha.name, gone.email),
        _log_in(alpha.name, gone.email, "wrong password"),
        _log_in(alpha.name, beta.email, beta.password),
        _log_in(beta.name, member.email),
        _log_in(alpha.name, "no address at all"),
        _log_in(alpha.name, member.email, f" {PASSWORD}"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1, "the answers tell them apart"
    assert answers[0].json()["code"] == "invalid_credentials"


def test_a_suspended_organization_is_a_403_for_right_and_wrong_passwords(
    suspended: Company,
) -> None:
    answers = [_log_in(suspended.name, suspended.email, word) for word in (PASSWORD, "wrong")]
    assert {answer.status_code for answer in answers} == {403}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json()["code"] == "organization_suspended"


def test_an_invalid_token_in_the_header_does_not_prevent_a_log_in(
    alpha: Company, member: User
) -> None:
    body = {"organization": alpha.name, "email": member.email, "password": PASSWORD}
    assert send(bearer("rubbish"), "post", TOKEN, body).status_code == 200


# --- Logging out --------------------------------------------------------------------------------
def _is_over(access: str, refresh: str) -> bool:
    refreshed = send(Client(), "post", "/api/v1/auth/token/refresh/", {"refresh": refresh})
    return (bearer(access).get(ME).status_code, refreshed.status_code) == (401, 401)


def test_logging_out_without_a_body_ends_the_login_of_the_access_token(
    alpha: Company, member: User
) -> None:
    access, refresh = log_in(alpha, member)
    response = bearer(access).post(LOGOUT)
    assert (response.status_code, response.content) == (204, b"")
    assert _is_over(access, refresh)


def test_logging_out_with_a_refresh_token_needs_no_other(alpha: Company, member: User) -> None:
    access, refresh = log_in(alpha, member)
    assert send(Client(), "post", LOGOUT, {"refresh": refresh}).status_code == 204
    assert _is_over(access, refresh)


def test_logout_with_a_refresh_token_accepts_an_expired_access_token(
    alpha: Company, member: User
) -> None:
    access, refresh = log_in(alpha, member)
    claims = jwt.decode(access, options={"verify_signature": False}) | {"exp": 1}
    key = settings.SIGNING_KEYS[0]
    expired = jwt.encode(claims, key, algorithm="HS256", headers={"kid": key_id(key)})
    response = send(bearer(expired), "post", LOGOUT, {"refresh": refresh})
    assert response.status_code == 204, response.content


def test_logging_out_with_both_ends_the_login_of_the_refresh_token(
    alpha: Company, member: User
) -> None:
    mine, other = log_in(alpha, member), log_in(alpha, member)
    assert send(bearer(mine[0]), "post", LOGOUT, {"refresh": other[1]}).status_code == 204
    assert _is_over(*other)
    assert bearer(mine[0]).get(ME).status_code == 200


def test_logging_out_without_a_login_or_twice_is_a_401(alpha: Company, member: User) -> None:
    assert Client().post(LOGOUT).status_code == 401
    access, refresh = log_in(alpha, member)
    assert [bearer(access).post(LOGOUT).status_code for _ in range(2)] == [204, 401]
    assert send(Client(), "post", LOGOUT, {"refresh": refresh}).status_code == 401
