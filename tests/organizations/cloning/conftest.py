"""Organizations to clone, and what their clones leave: every clone is deleted after its test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from organizations import lifecycle
from organizations.models import Organization
from organizations.provisioning import media as marks
from organizations.tenancy import storage
from tests.conftest import Company, Superuser, leftovers


@pytest.fixture
def media(settings: Settings, tmp_path: Path) -> Path:
    """MEDIA_ROOT, of this test alone."""
    settings.MEDIA_ROOT = tmp_path / "media"
    marks.leave_mark()
    return tmp_path / "media"


@pytest.fixture
def made(company: Callable[..., Company], media: Path) -> Iterator[Company]:
    """An organization to clone."""
    yield company()
    for clone in Organization.objects.live().exclude(cloned_from=None):
        lifecycle.delete_organization(clone)


@pytest.fixture
def nothing_is_left(made: Company, superuser: Superuser) -> Callable[..., None]:
    """Asserts that no clone is left: no row, database, role or file."""

    def check(case: str = "") -> None:
        assert not Organization.objects.live().exclude(cloned_from=None).exists(), case
        assert leftovers(superuser) == (set(), set()), case
        assert set(storage.keys()) <= {made.organization.key}, case

    return check
