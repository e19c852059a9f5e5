"""adopt_org looks at pg_dump and pg_restore before it changes anything."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_django import Settings

from organizations.errors import ProgramMissing, ProgramTooOld
from organizations.models import Organization
from organizations.postgres import programs
from organizations.recovery.adopting import adopt_organization
from tests.conftest import Company


def program(folder: Path, name: str, version: str) -> None:
    made = folder / name
    made.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
    made.chmod(0o755)


def test_programs_that_are_too_old_or_missing_end_an_adoption_before_it_shuts_anything(
    company: Callable[..., Company], settings: Settings, tmp_path: Path
) -> None:
    made = company("Programs Ltd")
    database = made.organization.database_name
    # As in a master from before its database was moved.
    rows = Organization.objects.filter(pk=made.organization.pk)
    rows.update(database_name="org_moved")
    settings.POSTGRES_BIN = str(tmp_path)

    def adopt() -> None:
        adopt_organization(database=database, name=made.name, email=made.email)

    try:
        with pytest.raises(ProgramMissing, match="pg_dump"):
            adopt()
        program(tmp_path, "pg_dump", "15.14")
        with pytest.raises(ProgramTooOld, match="pg_dump is version 15, and at least 18"):
            adopt()
        programs._major_version.cache_clear()
        program(tmp_path, "pg_dump", "19.1")
        program(tmp_path, "pg_restore", "18.6")
        with pytest.raises(ProgramTooOld, match="pg_restore is version 18, and at least 19"):
            adopt()
        assert [row.status for row in rows] == ["active"]
    finally:
        programs._major_version.cache_clear()
        rows.update(database_name=database)
