"""MASTER_DB_DIRECT_URL: databases are made without the pooler."""

from collections.abc import Iterator

import pytest
from django.conf import settings as configured
from django.db import connections
from pytest_django import Settings

from organizations import lifecycle
from organizations.master_directory import MasterDirectory
from tests.conftest import PASSWORD, Company
from tests.organizations.helpers import Superuser
from tests.orgmgmt.environment import settings_of


@pytest.fixture
def pooled(settings: Settings) -> Iterator[None]:
    """A pooler that serves the master, and never answers for a database it does not know."""
    entry = configured.DATABASES["default"]
    names = ("HOST", "PORT", "NAME", "USER", "PASSWORD")
    settings.MASTER_DB_DIRECT = {**{name: entry.get(name, "") for name in names}, "OPTIONS": {}}
    connections["default"].ensure_connection()
    real, entry["HOST"] = entry["HOST"], "/nowhere"
    yield
    entry["HOST"] = real


@pytest.mark.usefixtures("no_template", "pooled")
def test_a_sign_up_and_its_template_are_made_on_direct_sessions(superuser: Superuser) -> None:
    made = lifecycle.create_organization(name="Past It", email="a@test.com", password=PASSWORD)
    assert made.report.path == "template"
    lifecycle.delete_organization(made.organization)


@pytest.mark.usefixtures("pooled")
def test_a_request_goes_through_the_pooler_and_uses_no_server_side_cursor(alpha: Company) -> None:
    directory = MasterDirectory()
    for tenant in (alpha.tenant, directory.tenant_by_id(alpha.organization.pk)):
        entry = directory.connection_settings(tenant)
        assert (entry["HOST"], entry["DISABLE_SERVER_SIDE_CURSORS"]) == ("/nowhere", True)


def test_the_masters_iterators_use_none_either() -> None:
    made = settings_of(MASTER_DB_DIRECT_URL="postgres://a:b@c/d")
    assert made.DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] is True
