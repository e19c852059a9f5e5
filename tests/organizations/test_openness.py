"""ORG_SIGNUP and ORG_PUBLIC_LOOKUP: what strangers may do."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as configured
from django.core import checks
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoDbBlocker, Settings

from organizations import lifecycle
from organizations.api.serializers import masked
from organizations.checks.openness import check_openness
from organizations.models import Organization, ThrottleCounter
from tests.accounts.helpers import bearer, headers_of, json_of, send
from tests.conftest import PASSWORD, Company

NAME = "Opened Here Ltd"
SIGN_UP = {"organization_name": NAME, "email": "ada@test.com", "password": PASSWORD}
STAFF_LIST = "/api/v1/organizations/"


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    yield
    for organization in Organization.objects.live().named(NAME):
        lifecycle.delete_organization(organization)


@pytest.fixture
def closed(settings: Settings) -> Settings:
    """ORG_PUBLIC_LOOKUP is off: strangers may not look an organization up."""
    settings.ORG_PUBLIC_LOOKUP = "off"
    settings.LOGIN_FLOOR_MS = 0
    return settings


# --- ORG_SIGNUP ---------------------------------------------------------------------------------
def assert_closed_to_strangers() -> None:
    for body in (SIGN_UP, {}):
        assert json_of(send(Client(), "post", "/org/create", body), 403) == {
            "detail": "Sign-up is closed. Contact support.",
            "code": "signup_closed",
        }
    assert not Organization.objects.live().named(NAME).exists()
    assert not ThrottleCounter.objects.exists(), "it counts only where it is open"


def test_where_sign_up_is_for_staff_strangers_are_refused(
    throttles: Settings, staff_client: Client
) -> None:
    throttles.ORG_SIGNUP = "staff"
    assert_closed_to_strangers()
    assert send(staff_client, "post", STAFF_LIST, SIGN_UP).status_code == 201


def test_with_sign_up_off_only_the_command_creates_an_organization(
    throttles: Settings, staff_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttles.ORG_SIGNUP = "off"
    assert_closed_to_strangers()
    response = send(staff_client, "post", STAFF_LIST, SIGN_UP)
    assert json_of(response, 403)["code"] == "signup_closed"
    page = reverse("admin:organizations_organization_add")
    assert staff_client.post(page, SIGN_UP).status_code == 403
    assert not Organization.objects.live().named(NAME).exists()
    monkeypatch.setenv("ORG_ADMIN_PASSWORD", PASSWORD)
    call_command("create_org", NAME, "--email", "ada@test.com", "--json")
    assert Organization.objects.usable().named(NAME).exists()


# --- ORG_PUBLIC_LOOKUP --------------------------------------------------------------------------
def look_up(client: Client, name: str) -> HttpResponse:
    return send(client, "post", "/org/get", {"organization_name": name})


def test_strangers_do_not_learn_whether_an_organization_exists(
    alpha: Company, closed: Settings
) -> None:
    known, unknown = (look_up(Client(), name) for name in (alpha.name, "Nobody Ltd"))
    assert json_of(known, 401)["code"] == "not_authenticated"
    assert known.content == unknown.content
    assert headers_of(known) == headers_of(unknown)


def test_an_organizations_own_people_still_look_it_up(
    alpha: Company, staff_client: Client, closed: Settings
) -> None:
    """And staff look all of them up."""
    for client in (bearer(alpha.token(Client())), staff_client):
        assert json_of(look_up(client, alpha.name.upper()))["id"] == alpha.organization.pk


def test_people_of_another_organization_find_nothing(
    alpha: Company, beta: Company, closed: Settings
) -> None:
    client = bearer(beta.token(Client()))
    known = json_of(look_up(client, alpha.name), 404)
    unknown = json_of(look_up(client, "Nobody Ltd"), 404)
    assert known["code"] == unknown["code"] == "organization_not_found"
    assert known["detail"].replace(alpha.name, "X") == unknown["detail"].replace("Nobody Ltd", "X")


def test_a_stale_token_does_not_stop_a_public_lookup(alpha: Company) -> None:
    assert look_up(bearer("stale"), alpha.name).status_code == 200


@pytest.fixture
def masking(settings: Settings) -> Settings:
    """Strangers see masked addresses."""
    settings.ORG_PUBLIC_LOOKUP = "masked"
    return settings


def seen(client: Client, company: Company) -> str:
    answer = json_of(look_up(client, company.name))
    assert set(answer) == {"id", "name", "admin_email", "created_at"}
    return str(answer["admin_email"])


def test_only_own_users_and_staff_see_the_unmasked_address(
    alpha: Company, beta: Company, staff_client: Client, masking: Settings
) -> None:
    mask = "a***@alpha.example"
    client = bearer(alpha.token(Client()))
    assert seen(client, alpha) == seen(staff_client, alpha) == alpha.email
    assert seen(Client(), alpha) == seen(bearer(beta.token(Client())), alpha) == mask
    masking.ORG_PUBLIC_LOOKUP = "on"
    assert seen(Client(), alpha) == alpha.email


def test_an_invalid_credential_counts_as_none_where_addresses_are_masked(
    alpha: Company, staff_client: Client, masking: Settings
) -> None:
    ended = bearer(alpha.token(Client()))
    assert send(ended, "post", "/api/v1/auth/logout/", {}).status_code == 204
    cookie = Client()
    cookie.cookies[configured.ORG_SESSION_COOKIE_NAME] = "stale"
    elsewhere = bearer(alpha.token(Client()))
    elsewhere.defaults["HTTP_X_ORGANIZATION"] = "somebody-else"
    without_form = Client(enforce_csrf_checks=True)
    without_form.cookies = staff_client.cookies
    for stranger in (bearer("stale"), ended, cookie, elsewhere, without_form):
        assert seen(stranger, alpha) == "a***@alpha.example"


def test_a_sign_up_is_answered_with_the_address_whole(masking: Settings) -> None:
    assert (
        json_of(send(Client(), "post", "/org/create", SIGN_UP), 201)["admin_email"]
        == (SIGN_UP["email"])
    )


def test_a_masked_address_still_looks_like_one() -> None:
    shown = {
        "admin@company.com": "a***@company.com",
        "x@company.com": "x***@company.com",
        '"odd @ one"@company.com': "***@company.com",
        "özil@company.com": "ö***@company.com",
        "": "",
    }
    assert {email: masked(email) for email in shown} == shown


@pytest.fixture(scope="module")
def suspended(cast: object, django_db_blocker: DjangoDbBlocker) -> Iterator[Company]:
    with django_db_blocker.unblock():
        made = lifecycle.create_organization(
            name="Suspended Ltd", email="admin@test.com", password=PASSWORD
        )
        lifecycle.suspend_organization(made.organization)
        yield Company(made.organization, "admin@test.com")
        lifecycle.resume_organization(made.organization)
        lifecycle.delete_organization(made.organization)


def _token(name: str, email: str) -> Any:
    body = {"organization": name, "email": email, "password": "wrong"}
    return send(Client(), "post", "/api/v1/auth/token/", body)


def _admin(name: str, email: str) -> Any:
    path = f"/admin/login?organization_name={name}"
    return send(Client(), "post", path, {"email": email, "password": "wrong"})


def _page(name: str, email: str) -> Any:
    body = {"organization": name, "email": email, "password": "wrong"}
    response = Client().post("/api/login/", body)
    # What was typed is in the form again, and each page has a CSRF token of its own.
    assert "The e-mail or password is wrong" in response.content.decode()
    response.content = b""
    for of_the_page in ("Content-Length", "Expires"):
        response.headers.pop(of_the_page, None)
    return response


@pytest.mark.parametrize("log_in", [_token, _admin, _page])
def test_an_unknown_or_suspended_organization_looks_like_a_wrong_password(
    alpha: Company,
    closed: Settings,
    suspended: Company,
    log_in: Callable[[str, str], Any],
) -> None:
    known = log_in(alpha.name, alpha.email)
    assert known.status_code in (401, 403)
    for other in (
        log_in("Nobody Ltd", alpha.email),
        log_in(alpha.name, "nobody@test.com"),
        log_in(suspended.name, suspended.email),
    ):
        assert other.status_code == known.status_code
        assert other.content == known.content
        assert headers_of(other) == headers_of(known)


def test_a_header_does_not_tell_an_organization_from_none(alpha: Company, closed: Settings) -> None:
    def ask(name: str) -> Any:
        body = {"organization": name, "email": alpha.email, "password": "wrong"}
        response: Any = Client().post(
            "/api/v1/auth/token/",
            body,
            content_type="application/json",
            headers={"X-Organization": "somebody-else"},
        )
        return response

    assert ask(alpha.name).content == ask("Nobody Ltd").content
    assert ask(alpha.name).status_code == ask("Nobody Ltd").status_code == 401


def test_an_unknown_organization_costs_a_hash_too(
    closed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accounts import services as accounts

    hashed: list[str] = []
    monkeypatch.setattr(accounts, "hash_password", hashed.append)
    assert _token("Nobody Ltd", "ada@test.com").status_code == 401
    assert hashed == ["wrong"]


def test_a_failed_login_and_a_password_reset_take_at_least_the_floor(
    alpha: Company, closed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed.LOGIN_FLOOR_MS = 5_000
    slept: list[float] = []
    monkeypatch.setattr("accounts.limits.time.sleep", slept.append)
    for name in (alpha.name, "Nobody Ltd"):
        assert _token(name, alpha.email).status_code == 401
        body = {"organization": name, "email": alpha.email}
        assert Client().post("/api/v1/auth/password-reset/", body).status_code == 202
    assert alpha.token(Client())
    assert len(slept) == 4, "a success is answered at once"
    assert all(0 < seconds <= 5 for seconds in slept)
    closed.ORG_PUBLIC_LOOKUP = "on"
    assert _token(alpha.name, alpha.email).status_code == 401
    assert len(slept) == 4


# --- check --deploy -----------------------------------------------------------------------------
def ids() -> list[str | None]:
    return [message.id for message in check_openness()]


def test_what_strangers_may_do_is_warned_of(settings: Settings) -> None:
    settings.THROTTLES = True
    assert ids() == ["organizations.W031", "organizations.W032"]
    settings.ORG_SIGNUP, settings.ORG_PUBLIC_LOOKUP = "staff", "masked"
    assert ids() == []


def test_throttles_off_is_refused_by_check_deploy(settings: Settings) -> None:
    settings.THROTTLES = False
    (error, *_) = check_openness()
    assert (error.id, error.level) == ("organizations.E030", checks.ERROR)
    assert check_openness in checks.registry.registry.deployment_checks
    assert configured.THROTTLES is False
