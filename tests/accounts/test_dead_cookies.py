"""Tests of an ended browser session beside a staff session in the same browser."""

import pytest
from django.conf import settings
from django.test import Client

from accounts import sessions, tokens
from accounts.models import LoginSession, User
from organizations import tenancy
from tests.conftest import Company


@pytest.fixture
def dead_cookie(alpha: Company) -> str:
    with tenancy.override(alpha.tenant):
        user = User.objects.get(email_key=alpha.email)
        session = sessions.start(user, kind=LoginSession.Kind.BROWSER)
        sessions.end(session)
    return tokens.sign_cookie(session, alpha.tenant)


def test_a_dead_cookie_is_forgotten_and_the_staff_session_works_again(
    staff_client: Client, dead_cookie: str
) -> None:
    staff_client.cookies[settings.ORG_SESSION_COOKIE_NAME] = dead_cookie
    first = staff_client.get("/api/v1/organizations/")
    assert first.status_code == 401
    assert first.cookies[settings.ORG_SESSION_COOKIE_NAME]["max-age"] == 0
    assert (
        first.cookies[settings.ORG_SESSION_COOKIE_NAME]["path"] == settings.ORG_SESSION_COOKIE_PATH
    )
    del staff_client.cookies[settings.ORG_SESSION_COOKIE_NAME]  # as a browser does then
    assert staff_client.get("/api/v1/organizations/").status_code == 200
