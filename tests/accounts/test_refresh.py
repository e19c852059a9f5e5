"""Refresh tokens: each works once, and none outlives its login."""

from datetime import timedelta
from typing import Any

import jwt
from django.utils import timezone

from accounts.models import LoginSession, User
from organizations import tenancy
from tests.conftest import Company

from .helpers import assert_refused, at_once, bearer, log_in, refresh

ME = "/api/v1/me/"


def _claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def test_a_refresh_token_is_exchanged_for_a_new_pair(alpha: Company, member: User) -> None:
    access, refresh_token = log_in(alpha, member)
    answer = refresh(refresh_token).json()
    assert set(answer) == {"access", "refresh", "token_type", "expires_in"}
    assert answer["refresh"] != refresh_token
    assert bearer(answer["access"]).get(ME).json()["email"] == member.email
    assert bearer(access).get(ME).status_code == 200, "the old access token is still young"
    assert refresh(answer["refresh"]).status_code == 200


def test_a_refresh_token_used_again_ends_its_login_and_no_other(
    alpha: Company, member: User
) -> None:
    access, refresh_token = log_in(alpha, member)
    other = log_in(alpha, member)[0]
    newest = refresh(refresh_token).json()
    assert refresh(refresh_token).status_code == 401
    for each in (access, newest["access"]):
        assert_refused(each)
    assert refresh(newest["refresh"]).status_code == 401
    assert bearer(other).get(ME).status_code == 200


def test_of_three_uses_of_a_refresh_token_at_once_one_succeeds(
    alpha: Company, member: User
) -> None:
    for _ in range(5):
        refresh_token = log_in(alpha, member)[1]
        answers = at_once(*[lambda raw=refresh_token: refresh(raw).status_code] * 3)
        assert sorted(answers) == [200, 401, 401]


def test_a_refresh_does_not_extend_the_login(alpha: Company, member: User) -> None:
    refresh_token = log_in(alpha, member)[1]
    end = timezone.now().replace(microsecond=0) + timedelta(hours=1)
    with tenancy.override(alpha.tenant):
        LoginSession.objects.filter(user=member).update(expires_at=end)
    for _ in range(2):
        refresh_token = refresh(refresh_token).json()["refresh"]
        assert _claims(refresh_token)["exp"] == end.timestamp()
    with tenancy.override(alpha.tenant):
        assert LoginSession.objects.get(user=member).expires_at == end


def test_an_expired_login_is_refused_whatever_its_tokens_say(alpha: Company, member: User) -> None:
    access, refresh_token = log_in(alpha, member)
    with tenancy.override(alpha.tenant):
        LoginSession.objects.filter(user=member).update(
            expires_at=timezone.now() - timedelta(seconds=1)
        )
    assert_refused(access)
    assert refresh(refresh_token).status_code == 401
