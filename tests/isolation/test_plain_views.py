"""Plain Django views without DRF: a login that has ended sees nothing there."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts import sessions
from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.isolation import Side, rows
from tests.http.server import assert_one_shape
from tests.test_query_counts import counted

pytest_plugins = ["tests.isolation.fixtures"]
pytestmark = pytest.mark.urls("tests.isolation.urls")

LOG_INS: list[Callable[[Side], Client]] = [Side.by_token, Side.by_cookie]
REVOCATIONS: dict[str, Callable[[User], Any]] = {
    "logged out": lambda user: LoginSession.objects.update(ended_at=timezone.now()),
    "expired": lambda user: LoginSession.objects.update(expires_at=timezone.now()),
    "logged out everywhere": sessions.end_all,
    "deactivated": lambda user: User.objects.update(is_active=False),
    "removed": lambda user: user.delete(),
}


def test_a_plain_view_shows_a_user_their_own_organization(ours: Side, theirs: Side) -> None:
    for log_in in LOG_INS:
        for path in ("/test/plain", "/test/stream"):
            body = log_in(ours).get(path).getvalue()
            assert ours.traces_in(body) and not theirs.traces_in(body), path


def test_a_login_that_was_revoked_is_refused_by_a_plain_view(
    ours: Side, _password_hash: str
) -> None:
    for kind, revoke in REVOCATIONS.items():
        for log_in in LOG_INS:
            ours.plant(_password_hash)
            client = log_in(ours)
            with tenancy.override(ours.tenant):
                revoke(User.objects.get(pk=rows.ADMIN))
            answer = client.get("/test/plain")
            assert not ours.traces_in(answer.content), kind
            assert assert_one_shape(answer, 401)["code"] == "invalid_token", kind


def test_the_login_is_looked_up_once_in_every_kind_of_view(ours: Side) -> None:
    for log_in in LOG_INS:
        client = log_in(ours)
        client.get("/test/plain")  # From now on the organization is known.
        for path, statements in (("/test/plain", 2), ("/api/v1/me/", 1)):
            with counted() as found:
                assert client.get(path).status_code == 200
            assert (len(found["master"]), len(found["organization"])) == (0, statements), found


def test_paths_that_need_no_login_look_none_up(ours: Side) -> None:
    client = ours.by_token()
    client.cookies[settings.ORG_SESSION_COOKIE_NAME] = ours.cookie()
    for method, path in (
        ("POST", "/api/v1/auth/token/"),
        ("POST", "/api/v1/auth/token/refresh/"),
        ("POST", "/api/v1/auth/password-reset/"),
        ("POST", "/admin/login"),
        ("POST", "/api/login/"),
        ("POST", "/org/create"),
        ("POST", "/org/get"),
        ("GET", "/docs"),
        ("GET", "/api/login/"),
        ("GET", "/admin/login/"),
        ("GET", "/nothing/here"),
    ):
        with counted() as found:
            client.generic(method, path, b"{}", content_type="application/json")
        assert found["organization"] == [], path
        assert not any("FROM organizations WHERE id" in query for query in found["master"]), path
