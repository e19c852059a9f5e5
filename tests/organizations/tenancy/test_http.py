"""What a request says about an organization beside its credential."""

import pytest
from django.test import RequestFactory
from pytest_django import Settings

from organizations.isolation.calls import HEADERS
from organizations.tenancy import Tenant
from organizations.tenancy.http import other_organization

ACME = Tenant(organization_id=12, slug="acme")


def test_a_request_that_names_nobody_is_in_order() -> None:
    assert other_organization(RequestFactory().get("/"), ACME) is None


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_names_another_organization_is_reported(header: str) -> None:
    request = RequestFactory().get("/", headers={header: "rival"})
    assert other_organization(request, ACME) == f"The header {header}"


@pytest.mark.parametrize("named", ["acme", " ACME ", "12"])
def test_a_header_may_name_the_organization_itself(named: str) -> None:
    request = RequestFactory().get("/", headers={"X-Organization": named})
    assert other_organization(request, ACME) is None, f"{named!r} was taken for another"


@pytest.mark.parametrize("named", ["", "acme,rival", "acme2", "1", "13", "acme rival"])
def test_a_header_that_is_not_exactly_the_organization_is_reported(named: str) -> None:
    request = RequestFactory().get("/", headers={"X-Org-Id": named})
    assert other_organization(request, ACME) == "The header X-Org-Id", f"{named!r} passed"


def test_one_header_in_order_does_not_excuse_another() -> None:
    request = RequestFactory().get("/", headers={"X-Organization": "acme", "X-Tenant-Id": "13"})
    assert other_organization(request, ACME) == "The header X-Tenant-Id"


@pytest.mark.parametrize(
    ("host", "reported"),
    [
        ("acme.example.com", None),
        ("ACME.Example.com:8000", None),
        ("acme.example.com.", None),
        ("example.com", None),
        ("acme.elsewhere.test", None),
        ("notexample.com", None),
        ("rival.example.com", "The host"),
        ("rival.example.com:8000", "The host"),
        ("acme.rival.example.com", "The host"),
        ("rival.example.com.", "The host"),
    ],
)
def test_a_host_under_the_base_domain_names_an_organization(
    settings: Settings, host: str, reported: str | None
) -> None:
    settings.ORG_BASE_DOMAIN = "example.com"
    settings.ALLOWED_HOSTS = ["*"]
    request = RequestFactory().get("/", headers={"Host": host})
    assert other_organization(request, ACME) == reported


def test_without_a_base_domain_a_host_names_nobody(settings: Settings) -> None:
    settings.ORG_BASE_DOMAIN = ""
    settings.ALLOWED_HOSTS = ["*"]
    request = RequestFactory().get("/", headers={"Host": "rival.example.com"})
    assert other_organization(request, ACME) is None
