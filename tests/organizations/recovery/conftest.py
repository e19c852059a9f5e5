"""Fixture: the server whose master is dumped and restored."""

from collections.abc import Iterator

import pytest

from .estate import ENVIRONMENT, Estate


@pytest.fixture(scope="package")
def estate() -> Iterator[Estate]:
    with Estate(environment=ENVIRONMENT) as made:
        yield made
