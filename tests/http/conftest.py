"""Fixtures: the product on gunicorn for the whole run, as in production or with short limits."""

from collections.abc import Iterator

import pytest

from organizations import lifecycle
from organizations.models import Organization

from .server import WebServer, assert_no_traceback, limited, serving


@pytest.fixture(scope="session")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """gunicorn as in production, but on plain http; its log holds no traceback."""
    log = tmp_path_factory.mktemp("gunicorn") / "server.log"
    environment = {"DEBUG": "off", "HTTPS_ONLY": "off", "WEB_CONCURRENCY": "2"}
    # As in production. Random requests delete too, and what they delete comes back.
    environment["ORG_DELETION_GRACE_DAYS"] = "30"
    with serving(log, **environment) as running:
        yield running
    assert_no_traceback(running)


@pytest.fixture(scope="session")
def hurried(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """One process of four threads, whose statements may wait 0.6 s for a lock and take 1.5 s.

    The database's errors are in its log, and no bug is.
    """
    log = tmp_path_factory.mktemp("gunicorn") / "hurried.log"
    limits = limited(LOCK_TIMEOUT_SECONDS=0.6, STATEMENT_TIMEOUT_SECONDS=1.5)
    with serving(log, **limits) as running:
        yield running
    assert "Internal Server Error" not in running.text()


@pytest.fixture(autouse=True)
def _tidy(_database: None) -> Iterator[None]:
    """Delete the organizations that a test has signed up."""
    before = set(Organization.objects.values_list("pk", flat=True))
    yield
    for organization in Organization.objects.live().exclude(pk__in=before):
        lifecycle.delete_organization(organization)
