"""What the people of a suspended organization are told, and who else is told."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.models import Organization
from tests.accounts.helpers import send
from tests.accounts.link_helpers import ask, confirm, token_of
from tests.conftest import PASSWORD, Company

ME = "/api/v1/me/"
MESSAGE = "An invoice is open. <b>Write</b> to billing@platform.example."
PLAIN = "The organization 'Paused Ltd' is suspended. Contact support."
TOLD = f"The organization 'Paused Ltd' is suspended. {MESSAGE}"


@pytest.fixture
def paused(company: Callable[..., Company]) -> Company:
    return company("Paused Ltd")


def suspend(company: Company, message: str = MESSAGE) -> None:
    row = Organization.objects.get(pk=company.organization.pk)
    lifecycle.suspend_organization(row, reason="owes us", message=message)


def log_in(client: Client, password: str = PASSWORD) -> Any:
    body = {"organization": "Paused Ltd", "email": "admin@test.com", "password": password}
    return client.post("/api/v1/auth/token/", body, content_type="application/json")


def told(response: Any) -> str:
    assert (response.status_code, response.json()["code"]) == (403, "organization_suspended")
    return str(response.json()["detail"])


def test_its_people_are_told_at_each_login_request_refresh_and_link(
    paused: Company, client: Client
) -> None:
    login = paused.login(client)
    with tenancy.override(paused.tenant):
        user = User.objects.get()
    link = token_of(paused, user)
    token = {"Authorization": f"Bearer {login['access']}"}
    refresh = {"refresh": login["refresh"]}
    for message, said in ((MESSAGE, TOLD), ("", PLAIN)):
        suspend(paused, message)
        assert told(client.get(ME, headers=token)) == said
        assert told(send(client, "post", "/api/v1/auth/token/refresh/", refresh)) == said
        assert told(log_in(client)) == said
        assert told(confirm(link)) == said
        assert told(ask(paused, paused.email)) == said
        typed = {"organization": "Paused Ltd", "email": "a@x.example", "password": "wrong"}
        page = client.post("/api/login/", typed).content.decode()
        assert "is suspended." in page
        assert "<b>Write" not in page, "it is plain text"
        assert ("&lt;b&gt;Write&lt;/b&gt;" in page) is bool(message)
        paused.organization.refresh_from_db()
        lifecycle.resume_organization(paused.organization)
        assert client.get(ME, headers=token).status_code == 200


def test_where_strangers_may_not_look_it_up_they_are_not_told(
    paused: Company, client: Client, settings: Settings, alpha: Company
) -> None:
    settings.ORG_PUBLIC_LOOKUP, settings.LOGIN_FLOOR_MS = "off", 0
    login = paused.login(client)
    suspend(paused)
    unknown = log_in(Client(), "wrong")
    for response in (log_in(Client()), log_in(Client(), "wrong"), ask(paused, "a@x.example")):
        assert response.status_code in (401, 202)
        assert "invoice" not in response.content.decode()
    assert unknown.status_code == 401
    look = {"organization_name": "Paused Ltd"}
    theirs = Client(headers={"Authorization": f"Bearer {alpha.token(Client())}"})
    for stranger in (Client(), theirs):
        assert "invoice" not in send(stranger, "post", "/org/get", look).content.decode()
    token = {"Authorization": f"Bearer {login['access']}"}
    assert told(client.get(ME, headers=token)) == TOLD, "whoever has a login of it belongs to it"


def test_the_reason_is_for_staff_alone(
    paused: Company, client: Client, staff_client: Client
) -> None:
    token = {"Authorization": f"Bearer {paused.token(client)}"}
    suspend(paused)
    for response in (client.get(ME, headers=token), log_in(client)):
        assert "owes us" not in response.content.decode()
    for path in ("/api/v1/organizations/{}/", "/admin/organizations/organization/{}/change/"):
        page = staff_client.get(path.format(paused.organization.pk)).content.decode()
        assert "owes us" in page and "An invoice is open." in page
