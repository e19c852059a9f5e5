"""Tests of access and refresh tokens: their claims, and every kind of token that is refused."""

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from django.conf import settings
from django.test import Client
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from accounts import services, sessions, tokens
from accounts.errors import InvalidToken
from accounts.models import LoginSession, User
from accounts.signing_keys import key_id
from organizations import lifecycle as organization_services
from organizations import tenancy
from organizations.models import Staff
from tests.conftest import PASSWORD, Company

from .helpers import REFUSAL, assert_refused, bearer, log_in, refresh, refusal

ME = "/api/v1/me/"


def _claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def _signed(claims: dict[str, Any], *, key: str = "", algorithm: str = "HS256") -> str:
    ours = settings.SIGNING_KEYS[0]
    return jwt.encode(claims, key or ours, algorithm=algorithm, headers={"kid": key_id(ours)})


def _segment(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _status(token: str) -> int:
    return bearer(token).get(ME).status_code


# --- What they say ------------------------------------------------------------------------------
def test_tokens_hold_only_the_expected_claims_and_nothing_personal(
    alpha: Company, member: User
) -> None:
    access, refresh_token = map(_claims, log_in(alpha, member))
    for claims in (access, refresh_token):
        assert claims["org"] == alpha.organization.pk
        assert claims["iss"] == claims["aud"] == "organization-management-api"
        registered = {"token_type", "exp", "iat", "jti", "aud", "iss"}
        assert set(claims) - registered == {"org", "sid", "ver"}
    assert (access["token_type"], refresh_token["token_type"]) == ("access", "refresh")
    assert access["sid"] == refresh_token["sid"]
    assert uuid.UUID(access["jti"]) != uuid.UUID(refresh_token["jti"])
    with tenancy.override(alpha.tenant):
        session = LoginSession.objects.get(pk=access["sid"])
    assert str(session.refresh_jti) == refresh_token["jti"]


def test_an_access_token_lasts_as_long_as_the_answer_says(alpha: Company, member: User) -> None:
    claims = _claims(log_in(alpha, member)[0])
    assert claims["exp"] - claims["iat"] == tokens.access_lifetime_seconds() == 30 * 60


# --- Forged and damaged ones --------------------------------------------------------------------
def test_a_token_signed_with_another_key_or_algorithm_is_refused(
    alpha: Company, member: User
) -> None:
    claims = _claims(log_in(alpha, member)[0])
    assert _status(_signed(claims)) == 200
    assert_refused(_signed(claims, key="k" * 64))
    for algorithm in ("HS384", "HS512"):
        assert_refused(_signed(claims, algorithm=algorithm))


def test_a_token_without_signature_is_refused(alpha: Company, member: User) -> None:
    body = _segment(_claims(log_in(alpha, member)[0]))
    for none in ("none", "NONE", "nOnE"):
        assert_refused(f"{_segment({'alg': none, 'typ': 'JWT'})}.{body}.")


def test_a_signed_token_with_a_missing_or_invalid_claim_is_refused(
    alpha: Company, member: User
) -> None:
    invalid: dict[str, list[object]] = {
        "org": ["1", True, 1.0, None, [1], {"$gt": 0}, -1, 10**30],
        "ver": [0, 2, "1", True, None, 10**30],
        "sid": ["no uuid", 1, None, ["x"]],
        "iss": ["somebody"],
        "aud": ["something"],
        "token_type": ["sliding"],
        "exp": ["soon"],
        "jti": [],
    }
    claims = _claims(log_in(alpha, member)[0])
    wrong = {}
    for claim, values in invalid.items():
        others = {name: value for name, value in claims.items() if name != claim}
        for changed in ({}, *({claim: value} for value in values)):
            found = refusal(bearer(_signed(others | changed)).get(ME))
            if found != REFUSAL:
                wrong[claim, str(changed)] = found
    assert wrong == {}


def test_what_is_no_token_is_refused(alpha: Company) -> None:
    for raw in ("", "x", "a.b.c", "…", ". . .", "x" * 20000):
        with pytest.raises(InvalidToken):
            tokens.read_access(raw)
        if raw.isascii():
            assert_refused(raw)


def test_a_stock_token_with_a_users_id_alone_is_refused(alpha: Company, member: User) -> None:
    stock = _signed(AccessToken().payload | {"user_id": str(member.pk)})
    assert_refused(stock)
    assert_refused(f"{stock}x")


def test_an_access_and_a_refresh_token_do_not_replace_each_other(
    alpha: Company, member: User
) -> None:
    access, refresh_token = log_in(alpha, member)
    assert_refused(refresh_token)
    response = refresh(access)
    assert response.status_code == 401, response.content
    assert response.json()["code"] == "invalid_token"


def test_a_token_of_a_browsers_session_is_refused(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        session = sessions.start(member, kind=LoginSession.Kind.BROWSER)
    assert_refused(tokens.issue(session, alpha.tenant)[0])


def test_a_login_that_raced_a_change_of_the_password_is_refused(
    alpha: Company, member: User
) -> None:
    """The password was compared before the change, and the login started after it."""
    with tenancy.override(alpha.tenant):
        compared = services.authenticate(email=member.email, password=PASSWORD)
        services.change_password(
            User.objects.get(pk=member.pk),
            current_password=PASSWORD,
            new_password="another good passphrase",
        )
        session = sessions.start(compared, kind=LoginSession.Kind.TOKEN)
        access, refresh_token = tokens.issue(session, alpha.tenant)
        browser = sessions.start(compared, kind=LoginSession.Kind.BROWSER)
    assert_refused(access)
    assert refresh(refresh_token).status_code == 401
    cookie = tokens.read_cookie(tokens.sign_cookie(browser, alpha.tenant))
    with tenancy.override(alpha.tenant), pytest.raises(InvalidToken):
        sessions.of(cookie)


def test_raising_the_version_alone_ends_every_login(alpha: Company, member: User) -> None:
    access, refresh_token = log_in(alpha, member)
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=member.pk).update(token_version=2)
    assert_refused(access)
    assert refresh(refresh_token).status_code == 401


# --- Users and organizations that are gone ------------------------------------------------------
def test_tokens_of_a_removed_or_deactivated_user_are_refused_for_good(
    alpha: Company, person: Callable[..., User]
) -> None:
    removed, deactivated = person(), person()
    logins = [log_in(alpha, user) for user in (removed, deactivated)]
    with tenancy.override(alpha.tenant):
        services.remove_user(removed)
        services.update_user(deactivated, is_active=False)
    for access, _ in logins:
        assert_refused(access)
    with tenancy.override(alpha.tenant):
        services.update_user(deactivated, is_active=True)
    for access, refresh_token in logins:
        assert_refused(access)
        assert refresh(refresh_token).status_code == 401


def test_a_user_deactivated_in_the_database_is_refused_at_once(
    alpha: Company, member: User
) -> None:
    access, refresh_token = log_in(alpha, member)
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=member.pk).update(is_active=False)
    assert_refused(access)
    assert refresh(refresh_token).status_code == 401


def test_tokens_of_a_suspended_organization_are_refused_until_it_resumes(
    company: Callable[..., Company], client: Client
) -> None:
    made = company()
    login = made.login(client)
    access, refresh_token = str(login["access"]), str(login["refresh"])
    organization_services.suspend_organization(made.organization)
    for response in (bearer(access).get(ME), refresh(refresh_token)):
        assert response.status_code == 403, response.content
        assert response.json()["code"] == "organization_suspended"
    organization_services.resume_organization(made.organization)
    assert _status(access) == 200
    refreshed = refresh(refresh_token)
    assert refreshed.status_code == 200
    organization_services.delete_organization(made.organization)
    assert_refused(access)
    response = refresh(refreshed.json()["refresh"])
    assert (response.status_code, response.json()["code"]) == (401, "invalid_token")


def test_a_staff_user_with_a_deactivated_users_id_changes_nothing(
    alpha: Company, member: User
) -> None:
    access, refresh_token = log_in(alpha, member)
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=member.pk).update(is_active=False)
    Staff.objects.filter(pk=member.pk).delete()
    twin = Staff.objects.create_superuser(f"twin-{member.pk}", None, None)
    Staff.objects.filter(pk=twin.pk).update(id=member.pk)
    stock = _signed(RefreshToken().payload | {"user_id": str(member.pk)})
    try:
        assert_refused(access)
        for token in (refresh_token, stock):
            assert refresh(token).status_code == 401
    finally:
        Staff.objects.filter(username=f"twin-{member.pk}").delete()


# --- Clocks -------------------------------------------------------------------------------------
def test_a_clock_that_is_a_little_off_is_tolerated(alpha: Company, member: User) -> None:
    claims, now = _claims(log_in(alpha, member)[0]), int(time.time())
    assert [_status(_signed(claims | {"iat": now + seconds})) for seconds in (15, 120)] == [
        200,
        401,
    ]
    assert [_status(_signed(claims | {"exp": now - seconds})) for seconds in (15, 120)] == [
        200,
        401,
    ]


def test_an_impossible_time_is_refused_without_an_error(alpha: Company, member: User) -> None:
    claims = _claims(log_in(alpha, member)[0])
    times: list[object] = [10**18, 1e18, -1e18, 10**30, 1e300, float("inf"), float("nan")]
    times += ["x", None, [], {}, True]
    for claim in ("exp", "iat", "nbf"):
        statuses = {str(value): _status(_signed(claims | {claim: value})) for value in times}
        # A token may be issued long ago, or at no time.
        allowed = {401} if claim == "exp" else {200, 401}
        assert set(statuses.values()) <= allowed, (claim, statuses)
