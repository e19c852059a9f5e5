"""Fixture: the OpenAPI schema of the running server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from organizations import lifecycle
from organizations.models import Organization
from tests.http.server import WebServer, serving


@pytest.fixture(scope="session")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with serving(tmp_path_factory.mktemp("gunicorn") / "log", WEB_CONCURRENCY="1") as running:
        yield running


@pytest.fixture(scope="session")
def schema(server: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clients") / "openapi.json"
    response = server.get("/openapi.json", headers={"Accept": "application/json"})
    path.write_text(json.dumps(response.json()))
    return path


@pytest.fixture(autouse=True)
def _tidy(_database: None) -> Iterator[None]:
    yield
    for organization in Organization.objects.live().filter(name__startswith="Generated"):
        lifecycle.delete_organization(organization)
