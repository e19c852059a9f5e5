"""Helpers of the export tests."""

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import psycopg
import pytest
from django.core.management import CommandError, call_command

from organizations.exporting.export import export_organization
from organizations.postgres.databases import settings_for
from tests.conftest import Company


def exported(company: Company, path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The entries, and the manifest."""
    export_organization(company.organization, path)
    with ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[-1] == "manifest.json"
        found = {name: archive.read(name) for name in archive.namelist()}
    return found, json.loads(found.pop("manifest.json"))


def lines(entry: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in entry.splitlines()]


def refused(company: Company, path: Path) -> str:
    """Why the export ends with an error, which leaves no file."""
    others = sorted(path.parent.iterdir())
    with pytest.raises(CommandError) as error:
        call_command("export_org", company.name, "--output", str(path))
    assert sorted(path.parent.iterdir()) == others
    return str(error.value)


def as_owner(company: Company) -> psycopg.Connection[tuple[Any, ...]]:
    """A session of the organization's role that the application knows nothing of."""
    entry = settings_for(company.organization.place, owner="")
    named = {name: entry[name.upper()] for name in ("host", "port", "user", "password")}
    return psycopg.connect(**named, dbname=entry["NAME"])
