"""An organization with a file, in folders of the test's own for files and backups."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from organizations.models import Organization
from organizations.provisioning import media
from tests.conftest import Company, Superuser, leftovers
from tests.organizations.backups.conftest import folder
from tests.organizations.restoring.helpers import write_file

__all__ = ["folder"]


@pytest.fixture
def made(
    company: Callable[..., Company],
    folder: Path,
    settings: Settings,
    tmp_path: Path,
    superuser: Superuser,
) -> Iterator[Company]:
    settings.ORG_DELETION_GRACE_DAYS = 30
    settings.MEDIA_ROOT = tmp_path / "media"
    media.leave_mark()
    before = leftovers(superuser)
    found = company()
    write_file(found, "deep/plan.txt", "ours")
    yield found
    assert leftovers(superuser) == before, "an archive or a thaw has left something"
    Organization.objects.update(archived_backup=None, pending_fence="")
