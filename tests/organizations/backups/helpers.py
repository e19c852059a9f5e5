"""Helpers of the backup tests: misbehaving storages, and organizations with much to dump."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.files.storage import FileSystemStorage, InMemoryStorage
from pytest_django import Settings

from organizations.backups import files, storing
from organizations.models import BackupRun, Organization
from organizations.secrets import unseal
from tests.conftest import Company, Superuser
from tests.organizations.helpers import as_role_of

# More than the pipe of pg_dump holds, so that it waits for the storage.
_MUCH = """CREATE TABLE heap AS SELECT n, gen_random_uuid()::text || gen_random_uuid()::text AS junk
FROM generate_series(1, 20000) AS n"""
# A file of several small chunks, no two of them alike.
LARGE = " ".join(map(str, range(30_000)))


class Full(FileSystemStorage):
    """A disk that is full after the first chunk."""

    def _save(self, name: str, content: Any) -> str:
        def chunks() -> Any:
            yield next(iter(before()))
            raise OSError(28, "No space left on device: /secret/host")

        before, content.chunks = content.chunks, chunks
        return super()._save(name, content)  # type: ignore[misc,no-any-return]


class Forgetful(InMemoryStorage):
    """Not a folder: what is saved must be seekable. Something happens while it gets the dump."""

    act: Callable[[], object] = staticmethod(lambda: None)

    def _save(self, name: str, content: Any) -> str:
        if name.endswith("database.dump"):
            type(self).act()
        content.seek(0)
        return super()._save(name, content)  # type: ignore[misc,no-any-return]


class Interfering(FileSystemStorage):
    """Something happens before the dump is stored, or another part."""

    act: Callable[[], object] = staticmethod(lambda: None)
    part = "database.dump"

    def _save(self, name: str, content: Any) -> str:
        if name.endswith(self.part):
            type(self).act()
        return super()._save(name, content)  # type: ignore[misc,no-any-return]


def use(settings: Settings, storage: type[Any]) -> None:
    """Store backups there from now on."""
    options = settings.STORAGES["backups"]["OPTIONS"] if storage is not Forgetful else {}
    backend = f"{storage.__module__}.{storage.__name__}"
    own = {"BACKEND": backend, "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "backups": own}


def execute(company: Company, *statements: str) -> None:
    """As the organization's own role."""
    with as_role_of(company.organization) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def fill(company: Company) -> None:
    """Nearly a megabyte when dumped: many chunks, once these are small."""
    execute(company, _MUCH)


def make_chunks_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store and read in chunks that are a fraction of what `fill` makes."""
    for module in (storing, files):
        monkeypatch.setattr(module, "CHUNK_BYTES", 64_000)


def files_in(folder: Path) -> set[str]:
    """All files below it, without the installation's mark."""
    found = {name for _, _, names in os.walk(folder) for name in names}
    return {name for name in found if not name.startswith("installation-")}


def the_run(organization: Organization) -> BackupRun:
    return BackupRun.objects.get(organization_key=organization.key)


# What it may set for its own role and database.
SETTLE = """
CREATE FUNCTION settle() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE act text;
BEGIN
    IF current_database() = '{own}' THEN RETURN true; END IF;
    FOREACH act IN ARRAY ARRAY[
        'ALTER ROLE CURRENT_USER PASSWORD ''mine''',
        'ALTER ROLE CURRENT_USER SET search_path = nowhere',
        format('ALTER ROLE CURRENT_USER IN DATABASE %I SET work_mem = 64', current_database()),
        format('ALTER DATABASE %I SET lock_timeout = 1', current_database()),
        format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database()),
        format('ALTER DATABASE %I IS_TEMPLATE true', current_database()),
        format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO {guest}', current_database())
    ] LOOP
        EXECUTE act;
    END LOOP;
    RETURN true;
END $$
"""


def assert_nothing_is_settled(superuser: Superuser, row: Organization, guest: Organization) -> None:
    """Nothing of what SETTLE sets is left in the database that the row names."""
    found = superuser.execute(
        "SELECT datconnlimit, datistemplate, (SELECT array_agg(setconfig::text) FROM "
        "pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database AS d WHERE datname = %s",
        (row.database_name,),
    ).fetchone()
    assert found == (-1, False, None)
    (settings,) = superuser.execute(
        "SELECT rolconfig FROM pg_roles WHERE rolname = %s", (row.role_name,)
    ).fetchone() or (None,)
    assert not [each for each in settings if "search_path" in each]  # type: ignore[attr-defined]
    with (
        pytest.raises(psycopg.OperationalError, match="permission denied for database"),
        as_role_of(guest, row.database_name),
    ):
        pass
    assert unseal(row.sealed_password, owner="") != "mine"
    with as_role_of(row):
        pass
