"""What tests of backups need: storages that misbehave, and organizations with much to dump."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.files.storage import FileSystemStorage, InMemoryStorage
from pytest_django import Settings

from organizations.models import BackupRun, Organization
from tests.conftest import Company
from tests.organizations.helpers import as_role_of

# More than the pipe of pg_dump holds, so that it waits for the storage.
_MUCH = """CREATE TABLE heap AS SELECT n, gen_random_uuid()::text || gen_random_uuid()::text AS junk
FROM generate_series(1, 60000) AS n"""


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
    """Megabytes that do not compress."""
    execute(company, _MUCH)


def files_in(folder: Path) -> set[str]:
    """All files below it, without the installation's mark."""
    found = {name for _, _, names in os.walk(folder) for name in names}
    return {name for name in found if not name.startswith("installation-")}


def the_run(organization: Organization) -> BackupRun:
    return BackupRun.objects.get(organization_key=organization.key)
