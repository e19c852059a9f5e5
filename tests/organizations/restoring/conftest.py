"""An organization with a backup, whose kept databases are dropped after each test."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from organizations import lifecycle
from organizations.backups import making
from organizations.models import Organization, Restore
from organizations.provisioning import media
from organizations.restoring import switching
from tests.conftest import Company, Superuser, leftovers
from tests.organizations.backups.conftest import folder

from .helpers import add, besides, write_file

__all__ = ["folder"]


@pytest.fixture(autouse=True)
def _nobody_is_logging_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """During a switch: so it does not wait for those who could be."""
    monkeypatch.setattr(switching, "_LOGGING_IN_SECONDS", 0.0)


@pytest.fixture
def made(
    company: Callable[..., Company],
    folder: Path,
    settings: Settings,
    tmp_path: Path,
    superuser: Superuser,
) -> Iterator[Company]:
    """Its files are in a MEDIA_ROOT of the test's own."""
    settings.MEDIA_ROOT = tmp_path / "media"
    media.leave_mark()
    before = leftovers(superuser)
    yield company()
    Restore.objects.keeping().update(kept_until=timezone.now() - timedelta(seconds=1))
    assert switching.prune() == []
    Restore.objects.all().delete()
    Organization.objects.update(pending_fence="")
    assert leftovers(superuser) == before, "a restore has left something"


@pytest.fixture
def backed_up(made: Company, folder: Path) -> Iterator[Company]:
    """It has a backup with a file, and another user since. What is made of it beside is dropped."""
    write_file(made, "plan.txt", "then")
    making.back_up(made.organization)
    add(made, "late@test.com")
    yield made
    for row in besides():
        lifecycle.delete_organization(row)
