"""Fixture: an organization that is served over a kept connection."""

from collections.abc import Callable, Iterator

import pytest
from django.test import Client

from organizations.tenancy import registry
from tests.conftest import Company

from .helpers import ME


@pytest.fixture
def served(company: Callable[..., Company], client: Client) -> Iterator[Company]:
    """An organization with a kept, confirmed connection, and the client logged in to it."""
    made = company()
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {made.token(client)}"
    assert client.get(ME).status_code == 200
    yield made
    registry.forget(made.tenant.alias)
