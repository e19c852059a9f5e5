"""`manage.py backup_orgs NAME… | --all`: backs up organizations."""

from collections.abc import Iterator
from typing import Any

from rich.filesize import decimal

from organizations.background import enqueueing
from organizations.backups import fleet
from organizations.management.backups import BackupCommand
from organizations.models import OrganizationQuerySet


class Command(BackupCommand):
    """The same as the nightly jobs; a failure does not affect the others."""

    help = (
        'Back up organizations into STORAGES["backups"]: each database, as its own role, and its '
        "files. Exit code 1: some were not backed up."
    )
    document, parallel, what_failed = "backups", 2, "were not backed up"

    def act(self, organizations: OrganizationQuerySet, options: Any) -> Iterator[fleet.Result]:
        return fleet.back_up(organizations, parallel=options["parallel"])

    def enqueue(self, organizations: OrganizationQuerySet) -> int:
        return enqueueing.back_up(organizations)

    def sentence(self, result: fleet.Result) -> str:
        return f"{decimal(result.bytes)} in {result.folder}"
