"""The organization that a header or host names beside the credential."""

import pytest
from django.test import RequestFactory
from pytest_django import Settings

from organizations.isolation.calls import HEADERS
from organizations.tenancy import Tenant
from organizations.tenancy.http import other_organization

pytestmark = pytest.mark.pure

ACME = Tenant(organization_id=12, slug="acme")


def reported(**headers: str) -> str | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return other_organization(RequestFactory().get("/", headers=named), ACME)


def test_a_header_must_name_exactly_the_organization() -> None:
    assert reported() is None, "a request that names nobody is in order"
    for header in HEADERS:
        assert reported(**{header: "rival"}) == f"The header {header}"
    for named in ("acme", " ACME ", "12"):
        assert reported(X_Organization=named) is None, f"{named!r} was taken for another"
    for named in ("", "acme,rival", "acme2", "1", "13", "acme rival"):
        assert reported(X_Org_Id=named) == "The header X-Org-Id", f"{named!r} passed"
    # One header in order does not excuse another.
    assert reported(X_Organization="acme", X_Tenant_Id="13") == "The header X-Tenant-Id"


def test_a_host_under_the_base_domain_names_an_organization(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.ORG_BASE_DOMAIN = ""
    assert reported(Host="rival.example.com") is None, "without a base domain it names nobody"
    settings.ORG_BASE_DOMAIN = "example.com"
    hosts = {
        "acme.example.com": None,
        "ACME.Example.com:8000": None,
        "acme.example.com.": None,
        "example.com": None,
        "acme.elsewhere.test": None,
        "notexample.com": None,
        "rival.example.com": "The host",
        "rival.example.com:8000": "The host",
        "acme.rival.example.com": "The host",
        "rival.example.com.": "The host",
    }
    assert {host: reported(Host=host) for host in hosts} == hosts
