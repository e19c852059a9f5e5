"""Fixture: jobs start from an empty queue and without spare databases."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from .helpers import clear


@pytest.fixture(autouse=True)
def _no_jobs(_database: None, settings: Settings) -> Iterator[None]:
    settings.ORG_SPARE_DATABASES = 0
    clear()
    yield
    clear()
