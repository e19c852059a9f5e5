"""Tokens: what they say, and every way in which one can be no good."""

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

from accounts import services, tokens
from accounts.errors import InvalidToken
from accounts.models import LoginSession, User
from accounts.signing_keys import key_id
from organizations import lifecycle as organization_services
from organizations import tenancy
from organizations.models import Staff
from tests.conftest import PASSWORD, Company

from .helpers import assert_refused, bearer, log_in, refresh

ME = "/api/v1/me/"


def _claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def _signed(claims: dict[str, Any], *, key: str = "", algorithm: str = "HS256") -> str:
    ours = settings.SIGNING_KEYS[0]
    return jwt.encode(claims, key or ours, algorithm=algorithm, headers={"kid": key_id(ours)})


def _segment(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


# --- What they say ------------------------------------------------------------------------------
def test_tokens_name_organization_issuer_audience_login_and_themselves(
    alpha: Company, member: User
) -> None:
    access, refresh_token = map(_claims, log_in(alpha, member))
    for claims in (access, refresh_token):
        assert claims["org"] == alpha.organization.pk
        assert claims["iss"] == claims["aud"] == "organization-management-api"
    assert (access["token_type"], refresh_token["token_type"]) == ("access", "refresh")
    assert access["sid"] == refresh_token["sid"]
    assert uuid.UUID(access["jti"]) != uuid.UUID(refresh_token["jti"])
    with tenancy.override(alpha.tenant):
        session = LoginSession.objects.get(pk=access["sid"])
    assert str(session.refresh_jti) == refresh_token["jti"]


def test_an_access_token_lasts_as_long_as_the_answer_says(alpha: Company, member: User) -> None:
    claims = _claims(log_in(alpha, member)[0])
    assert claims["exp"] - claims["iat"] == tokens.access_lifetime_seconds() == 30 * 60


def test_tokens_say_nothing_about_the_person(alpha: Company, member: User) -> None:
    for token in log_in(alpha, member):
        registered = {"token_type", "exp", "iat", "jti", "aud", "iss"}
        assert set(_claims(token)) - registered == {"org", "sid", "ver"}


# --- Forged and spoiled ones --------------------------------------------------------------------
def test_a_good_token_is_accepted(alpha: Company, member: User) -> None:
    claims = _claims(log_in(alpha, member)[0])
    assert bearer(_signed(claims)).get(ME).status_code == 200


def test_a_signature_by_another_key_is_refused(alpha: Company, member: User) -> None:
    assert_refused(_signed(_claims(log_in(alpha, member)[0]), key="k" * 64))


@pytest.mark.parametrize("none", ["none", "None", "NONE", "nOnE"])
def test_a_token_without_signature_is_refused(alpha: Company, member: User, none: str) -> None:
    body = _segment(_claims(log_in(alpha, member)[0]))
    assert_refused(f"{_segment({'alg': none, 'typ': 'JWT'})}.{body}.")


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_is_refused(alpha: Company, member: User, algorithm: str) -> None:
    claims = _claims(log_in(alpha, member)[0])
    assert_refused(_signed(claims, algorithm=algorithm))


def test_an_expired_token_is_refused(alpha: Company, member: User) -> None:
    assert_refused(_signed(_claims(log_in(alpha, member)[0]) | {"exp": int(time.time()) - 60}))


@pytest.mark.parametrize("claim", ["org", "sid", "ver", "exp", "jti", "iss", "aud", "token_type"])
def test_a_token_without_one_of_its_claims_is_refused(
    alpha: Company, member: User, claim: str
) -> None:
    claims = _claims(log_in(alpha, member)[0])
    del claims[claim]
    assert_refused(_signed(claims))


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("org", "1"),
        ("org", True),
        ("org", 1.0),
        ("org", None),
        ("org", [1]),
        ("org", {"$gt": 0}),
        ("org", -1),
        ("org", 10**30),
        ("ver", 0),
        ("ver", 2),
        ("ver", "1"),
        ("ver", True),
        ("ver", None),
        ("ver", 10**30),
        ("sid", "no uuid"),
        ("sid", 1),
        ("sid", None),
        ("sid", ["x"]),
        ("iss", "somebody"),
        ("aud", "something"),
        ("token_type", "sliding"),
        ("exp", "soon"),
    ],
)
def test_a_signed_token_with_a_claim_of_nonsense_is_refused(
    alpha: Company, member: User, claim: str, value: object
) -> None:
    assert_refused(_signed(_claims(log_in(alpha, member)[0]) | {claim: value}))


@pytest.mark.parametrize("raw", ["", "x", "a.b.c", "…", ". . .", "x" * 20000])
def test_what_is_no_token_is_refused(alpha: Company, raw: str) -> None:
    with pytest.raises(InvalidToken):
        tokens.read_access(raw)
    if raw.isascii():
        assert_refused(raw)


def test_a_stock_token_with_a_users_id_alone_is_refused(alpha: Company, member: User) -> None:
    stock = _signed(AccessToken().payload | {"user_id": str(member.pk)})
    assert_refused(stock)
    assert_refused(f"{stock}x")


def test_a_refresh_token_is_no_access_token(alpha: Company, member: User) -> None:
    assert_refused(log_in(alpha, member)[1])


def test_an_access_token_is_no_refresh_token(alpha: Company, member: User) -> None:
    response = refresh(log_in(alpha, member)[0])
    assert response.status_code == 401, response.content
    assert response.json()["code"] == "invalid_token"


def test_a_token_of_a_browsers_session_is_refused(alpha: Company, member: User) -> None:
    with tenancy.override(alpha.tenant):
        session = services.start_session(member, kind=LoginSession.Kind.BROWSER)
    assert_refused(tokens.issue(session, alpha.tenant)[0])


def test_a_login_that_raced_a_change_of_the_password_is_no_good(
    alpha: Company, member: User
) -> None:
    """The password was compared before the change, and the login begun behind it."""
    with tenancy.override(alpha.tenant):
        compared = services.authenticate(email=member.email, password=PASSWORD)
        services.change_password(
            User.objects.get(pk=member.pk),
            current_password=PASSWORD,
            new_password="another good passphrase",
        )
        session = services.start_session(compared, kind=LoginSession.Kind.TOKEN)
        access, refresh_token = tokens.issue(session, alpha.tenant)
        browser = services.start_session(compared, kind=LoginSession.Kind.BROWSER)
    assert_refused(access)
    assert refresh(refresh_token).status_code == 401
    cookie = tokens.read_cookie(tokens.sign_cookie(browser, alpha.tenant))
    with tenancy.override(alpha.tenant), pytest.raises(InvalidToken):
        services.session_of(cookie)


def test_raising_the_version_alone_ends_every_login(alpha: Company, member: User) -> None:
    access, refresh_token = log_in(alpha, member)
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=member.pk).update(token_version=2)
    assert_refused(access)
    assert refresh(refresh_token).status_code == 401


# --- People and organizations that are gone -----------------------------------------------------
def test_tokens_of_a_deleted_user_are_refused(alpha: Company, member: User) -> None:
    access, refresh_token = log_in(alpha, member)
    with tenancy.override(alpha.tenant):
        services.remove_user(member)
    assert_refused(access)
    assert refresh(refresh_token).status_code == 401


def test_tokens_of_a_deactivated_user_are_refused_and_stay_so(alpha: Company, member: User) -> None:
    access, refresh_token = log_in(alpha, member)
    with tenancy.override(alpha.tenant):
        services.update_user(member, is_active=False)
    assert_refused(access)
    with tenancy.override(alpha.tenant):
        services.update_user(member, is_active=True)
    assert_refused(access)
    assert refresh(refresh_token).status_code == 401


def test_a_user_switched_off_in_the_database_is_refused_at_once(
    alpha: Company, member: User
) -> None:
    access, refresh_token = log_in(alpha, member)
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=member.pk).update(is_active=False)
    assert_refused(access)
    assert refresh(refresh_token).status_code == 401


def test_tokens_of_a_suspended_organization_are_refused_until_it_is_resumed(
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
    assert bearer(access).get(ME).status_code == 200
    assert refresh(refresh_token).status_code == 200


def test_tokens_of_a_deleted_organization_are_refused(
    company: Callable[..., Company], client: Client
) -> None:
    made = company()
    login = made.login(client)
    organization_services.delete_organization(made.organization)
    assert_refused(str(login["access"]))
    response = refresh(str(login["refresh"]))
    assert response.status_code == 401, response.content
    assert response.json()["code"] == "invalid_token"


def test_staff_with_the_key_of_a_deactivated_user_do_not_matter(
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
@pytest.mark.parametrize(
    ("claim", "seconds", "status"),
    [
        ("iat", 15, 200),
        ("iat", 120, 401),
        ("exp", -15, 200),
        ("exp", -120, 401),
    ],
)
def test_a_host_whose_clock_is_a_little_off_is_put_up_with(
    alpha: Company, member: User, claim: str, seconds: int, status: int
) -> None:
    claims = _claims(log_in(alpha, member)[0]) | {claim: int(time.time()) + seconds}
    assert bearer(_signed(claims)).get(ME).status_code == status


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    [10**18, 1e18, -1e18, 10**30, 1e300, float("inf"), float("nan"), "x", None, [], {}, True],
)
def test_a_time_that_no_clock_shows_is_no_error_of_ours(
    alpha: Company, member: User, claim: str, value: object
) -> None:
    claims = _claims(log_in(alpha, member)[0]) | {claim: value}
    # A time of issue so long ago, or none at all, is a token's own affair.
    assert bearer(_signed(claims)).get(ME).status_code in ((401,) if claim == "exp" else (200, 401))
