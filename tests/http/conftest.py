"""The product served by gunicorn, once for the whole run."""

from collections.abc import Iterator

import pytest

from organizations import lifecycle
from organizations.models import Organization

from .server import WebServer, assert_no_traceback, serving


@pytest.fixture(scope="session")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """gunicorn with DEBUG on, as on a developer's machine; its log holds no traceback."""
    log = tmp_path_factory.mktemp("gunicorn") / "development.log"
    with serving(log, WEB_CONCURRENCY="2") as running:
        yield running
    assert_no_traceback(running)


@pytest.fixture(scope="session")
def live(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """gunicorn as in production, but on plain http; its log holds no traceback."""
    log = tmp_path_factory.mktemp("gunicorn") / "live.log"
    with serving(log, DEBUG="off", HTTPS_ONLY="off") as running:
        yield running
    assert_no_traceback(running)


@pytest.fixture(params=["server", "live"])
def either(request: pytest.FixtureRequest) -> WebServer:
    """Each of the two, one after the other."""
    running: WebServer = request.getfixturevalue(request.param)
    return running


@pytest.fixture(autouse=True)
def _tidy(_database: None) -> Iterator[None]:
    """Delete what a test has signed up."""
    before = set(Organization.objects.values_list("pk", flat=True))
    yield
    for organization in Organization.objects.live().exclude(pk__in=before):
        lifecycle.delete_organization(organization)
