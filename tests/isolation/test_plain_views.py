"""Views that Django REST framework knows nothing of: who is logged out sees nothing there."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts import services
from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.isolation import Side, rows
from tests.http.server import assert_one_shape
from tests.test_query_counts import counted

pytest_plugins = ["tests.isolation.fixtures"]
pytestmark = pytest.mark.urls("tests.isolation.urls")

LOG_INS: list[Callable[[Side], Client]] = [Side.by_token, Side.by_cookie]
log_ins = pytest.mark.parametrize("log_in", LOG_INS, ids=["token", "cookie"])
REVOCATIONS: dict[str, Callable[[User], Any]] = {
    "logged out": lambda user: LoginSession.objects.update(ended_at=timezone.now()),
    "run out": lambda user: LoginSession.objects.update(expires_at=timezone.now()),
    "logged out everywhere": services.end_all_sessions,
    "deactivated": lambda user: User.objects.update(is_active=False),
    "removed": lambda user: user.delete(),
}


@log_ins
@pytest.mark.parametrize("path", ["/test/plain", "/test/stream"])
def test_who_is_logged_in_sees_their_own_organization(
    ours: Side, theirs: Side, log_in: Callable[[Side], Client], path: str
) -> None:
    body = log_in(ours).get(path).getvalue()
    assert ours.traces_in(body) and not theirs.traces_in(body)


@log_ins
@pytest.mark.parametrize("revoke", REVOCATIONS.values(), ids=REVOCATIONS)
def test_a_login_that_was_revoked_is_refused_by_a_plain_view(
    ours: Side, log_in: Callable[[Side], Client], revoke: Callable[[User], Any]
) -> None:
    client = log_in(ours)
    with tenancy.override(ours.tenant):
        revoke(User.objects.get(pk=rows.ADMIN))
    answer = client.get("/test/plain")
    assert not ours.traces_in(answer.content)
    assert assert_one_shape(answer, 401)["code"] == "invalid_token"


@log_ins
def test_the_login_is_looked_up_once_whatever_kind_of_view_answers(
    ours: Side, log_in: Callable[[Side], Client]
) -> None:
    client = log_in(ours)
    for path, statements in (("/test/plain", 2), ("/api/v1/me/", 1)):
        with counted() as found:
            assert client.get(path).status_code == 200
        assert (len(found["master"]), len(found["organization"])) == (1, statements), found


@pytest.mark.parametrize(
    ("method", "path"),
    [
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
    ],
)
def test_what_takes_no_login_looks_none_up(ours: Side, method: str, path: str) -> None:
    client = ours.by_token()
    client.cookies[settings.ORG_SESSION_COOKIE_NAME] = ours.cookie()
    with counted() as found:
        client.generic(method, path, b"{}", content_type="application/json")
    assert found["organization"] == [], found
    assert not any("FROM organizations WHERE id" in query for query in found["master"]), found
