"""Fixtures: templates and spare databases, removed after the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from organizations.models import SpareDatabase, Template
from organizations.postgres.sessions import open_session
from organizations.provisioning import refill, templates
from tests.organizations.helpers import Code


@pytest.fixture
def no_template() -> Iterator[None]:
    """No template exists when the test begins, and its templates are dropped at the end."""
    drop_templates()
    yield
    drop_templates()


def drop_templates() -> None:
    with open_session() as session:
        session.lock(templates.LOCK, name="template", timeout_seconds=10)
        Template.objects.update(ready=False)
        templates.drop_unfinished(session)


@pytest.fixture
def template() -> Template:
    """The template of this code."""
    with open_session() as session:
        found = templates.ensure(session)
    assert found is not None
    return found


@pytest.fixture
def spares(settings: Settings) -> Iterator[list[SpareDatabase]]:
    """Two spare databases, ready."""
    settings.ORG_SPARE_DATABASES = 2
    with open_session() as session:
        refill.fill(session)
    yield list(SpareDatabase.objects.order_by("pk"))
    settings.ORG_SPARE_DATABASES = 0
    with open_session() as session:
        refill.fill(session)
    assert not SpareDatabase.objects.exists()


@pytest.fixture
def code(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Code]:
    """The tenant apps' migrations, which the test can change."""
    yield Code(tmp_path, settings, monkeypatch)
    settings.MIGRATION_MODULES = {}
