"""The promise: nothing of one organization is ever seen or changed from another.

Every endpoint is attacked by the attempts of `manage.py check_isolation`, which
tests/organizations/isolation/test_catalogue.py runs one by one. Here is that they leave nothing
out, and what logins and staff must not reach. `ours` attacks, `theirs` must not notice: the
fixture compares the whole of its database before and after each test.
"""

import uuid
from collections.abc import Callable

import pytest
from django.conf import settings
from django.db import models
from django.test import Client
from django.test.utils import isolate_apps

from accounts import sessions, tokens
from accounts.errors import InvalidToken
from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.isolation import Side, rows
from organizations.isolation.calls import all_calls, endpoints, send
from tests.conftest import PASSWORD

pytest_plugins = ["tests.isolation.fixtures"]

LOG_INS: list[Callable[[Side], Client]] = [Side.by_token, Side.by_cookie]
CALLS = all_calls()


# --- Nothing is left out ------------------------------------------------------------------------
@pytest.mark.pure
def test_every_endpoint_is_attacked() -> None:
    missing, gone = endpoints() - set(CALLS), set(CALLS) - endpoints()
    assert not missing, (
        f"Not covered: {sorted(missing)}. Add each to CALLS in organizations/isolation/calls.py or "
        "in the app's isolation.py, with a body that a caller from another organization would send."
    )
    assert not gone, f"Remove {sorted(gone)} from CALLS."


@pytest.mark.pure
@isolate_apps("accounts")
def test_every_tenant_model_has_rows_on_both_sides() -> None:
    missing = rows.uncovered_models(rows.tenant_models())
    assert not missing, (
        f"Not covered: {sorted(missing)}. Add to ROWS in organizations/isolation/rows.py or in the "
        "app's isolation.py a function that makes rows of each."
    )

    class Unknown(models.Model):
        class Meta:
            app_label = "accounts"

    assert tenancy.is_tenant_model(Unknown)
    assert rows.uncovered_models([User, Unknown]) == {"accounts.Unknown"}


# --- Logins -------------------------------------------------------------------------------------
def test_our_password_does_not_log_in_there(ours: Side, theirs: Side) -> None:
    name = theirs.organization.name
    body = {"organization": name, "email": f"admin@{ours.domain}", "password": PASSWORD}
    for path, wrong in (
        ("/api/v1/auth/token/", 401),
        (f"/admin/login?organization_name={name}", 401),
        ("/api/login/", 403),
    ):
        kind = {} if path == "/api/login/" else {"content_type": "application/json"}
        response = Client().post(path, body, **kind)  # type: ignore[arg-type]
        assert response.status_code == wrong, response.content
        assert settings.ORG_SESSION_COOKIE_NAME not in response.cookies, path


def test_a_refresh_token_issued_for_them_with_a_login_of_ours_is_refused(
    ours: Side, theirs: Side
) -> None:
    with tenancy.override(ours.tenant):
        user = User.objects.get(pk=rows.ADMIN)
        session = sessions.start(user, kind=LoginSession.Kind.TOKEN)
    refresh = tokens.issue(session, theirs.tenant)[1]
    for path in ("/api/v1/auth/token/refresh/", "/api/v1/auth/logout/"):
        response = Client().post(path, {"refresh": refresh}, content_type="application/json")
        assert response.status_code == 401, response.content


def test_logging_out_ends_our_session_and_not_theirs_of_the_same_id(
    ours: Side, theirs: Side, _password_hash: str
) -> None:
    for key in ("POST /api/v1/auth/logout/", "ANY /api/logout/"):
        for log_in in LOG_INS:
            ours.plant(_password_hash)
            client, their_client = log_in(ours), log_in(theirs)
            send(client, key, ours, theirs)
            assert their_client.get("/api/v1/me/").status_code == 200, "their login has ended"
            with tenancy.override(ours.tenant):
                assert LoginSession.objects.filter(ended_at=None).count() == 1, "ours has not"


def test_a_reused_refresh_token_of_ours_ends_our_login_and_not_theirs(
    ours: Side, theirs: Side
) -> None:
    refresh = ours.tokens()[1]
    answers = [
        Client()
        .post("/api/v1/auth/token/refresh/", {"refresh": refresh}, content_type="application/json")
        .status_code
        for _ in range(2)
    ]
    assert answers == [200, 401]
    assert theirs.by_token().get("/api/v1/me/").status_code == 200, "their login has ended"


def test_a_credential_of_ours_finds_no_login_in_theirs_under_the_same_id(
    ours: Side, theirs: Side
) -> None:
    keys = {
        LoginSession.Kind.TOKEN: rows.TOKEN_SESSION,
        LoginSession.Kind.BROWSER: rows.BROWSER_SESSION,
    }
    for kind, key in keys.items():
        credential = tokens.Credential(ours.organization.pk, key, 1, kind, rows.REFRESH_JTI)
        with tenancy.override(theirs.tenant):
            for use in (sessions.of, sessions.rotate):
                with pytest.raises(InvalidToken):
                    use(credential)


def test_a_token_that_names_no_organization_is_refused(ours: Side, theirs: Side) -> None:
    """As simplejwt's own: it names a user's id, which exists in every organization."""
    for kind in (tokens.OrgAccessToken, tokens.OrgRefreshToken):
        token = kind()
        token["user_id"] = str(rows.ADMIN)
        token["ver"] = 1
        token["sid"] = str(uuid.UUID(int=1))
        response = Client().get("/api/v1/me/", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 401, response.content


def test_a_browser_with_both_credentials_is_in_the_organization_of_its_token(
    ours: Side, theirs: Side
) -> None:
    client = ours.by_token()
    client.cookies = theirs.by_cookie().cookies
    answer = client.get("/api/v1/me/").json()
    assert answer["email"] == f"admin@{ours.domain}", answer


def test_an_organizations_admin_cannot_use_the_staffs_admin(ours: Side, theirs: Side) -> None:
    for log_in in LOG_INS:
        for path in ("/admin/", "/admin/organizations/organization/"):
            response = log_in(ours).get(path)
            assert response.status_code == 302, path
            assert response["Location"].startswith("/admin/login/"), path


def test_staff_see_no_organizations_users(theirs: Side, staff_client: Client) -> None:
    for key, call in CALLS.items():
        if call.audience == "member" and key not in ("GET /api/v1/", "POST /api/v1/auth/logout/"):
            response = send(staff_client, key, theirs, theirs)
            assert response.status_code == 403, f"{key}: {response.content!r}"
