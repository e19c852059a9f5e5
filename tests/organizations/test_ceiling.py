"""ORG_MAX_ORGANIZATIONS: the limit on the number of organizations."""

from django.test import Client
from pytest_django import Settings

from organizations.checks.server import check_server
from organizations.models import Organization
from tests.conftest import PASSWORD, Company

BODY = {"organization_name": "One More", "email": "a@test.com", "password": PASSWORD}


def told() -> list[str | None]:
    return [each.id for each in check_server(databases=["default"])]


def test_a_sign_up_above_the_ceiling_is_a_503_and_makes_nothing(
    alpha: Company, client: Client, settings: Settings
) -> None:
    settings.ORG_MAX_ORGANIZATIONS = 2 * Organization.objects.live().count()
    assert "organizations.W007" not in told()
    settings.ORG_MAX_ORGANIZATIONS = Organization.objects.live().count()
    assert "organizations.W007" in told()
    for prefer in ("wait=10", "respond-async"):
        answer = client.post(
            "/org/create", BODY, content_type="application/json", headers={"Prefer": prefer}
        )
        assert answer.status_code == 503, answer.content
        assert answer.json()["code"] == "too_many_organizations"
        assert answer.json()["detail"].startswith("The limit of organizations is reached")
        assert not Organization.objects.named("One More").exists()
