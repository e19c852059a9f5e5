"""Fixtures: a folder for exports, and something to export."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.provisioning import media
from tests.conftest import Company


@pytest.fixture
def file(tmp_path: Path, settings: Settings) -> Path:
    """Where the export goes; the organizations' files are of this test alone."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    media.leave_mark()
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "alpha.zip"


@pytest.fixture
def sessions(alpha: Company) -> Iterator[list[LoginSession]]:
    """Many log-ins of alpha's."""
    with tenancy.override(alpha.tenant):
        user = User.objects.get(email=alpha.email)
        made = LoginSession.objects.bulk_create(
            LoginSession(
                user=user,
                kind="token",
                refresh_jti=f"00000000-0000-4000-8000-{number:012}",
                expires_at=timezone.now() + timedelta(hours=1, microseconds=number),
            )
            for number in range(201)
        )
    yield made
    with tenancy.override(alpha.tenant):
        LoginSession.objects.filter(pk__in=[each.pk for each in made]).delete()
