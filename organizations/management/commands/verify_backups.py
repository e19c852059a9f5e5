"""`manage.py verify_backups NAME… | --all`: verifies backups by restoring them."""

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError

from organizations.background import enqueueing
from organizations.backups import fleet
from organizations.management.backups import BackupCommand
from organizations.models import OrganizationQuerySet


class Command(BackupCommand):
    """Restores each into a throw-away database, compares, and drops it."""

    help = (
        "Verify the newest good backup of organizations: signature, hashes, and a restore into a "
        "throw-away database. Exit code 1: some were not verified."
    )
    even_archived = True
    document, parallel, what_failed = "verifications", 1, "backups were not verified"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        others = parser.add_mutually_exclusive_group()
        others.add_argument(
            "--unverified", action="store_true", help="every good backup not verified yet"
        )
        others.add_argument(
            "--bad", action="store_true", help="every bad backup again: it can become good"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["enqueue"] and (options["unverified"] or options["bad"]):
            raise CommandError(
                "--enqueue verifies only the newest: leave out --unverified and --bad."
            )
        super().handle(*args, **options)

    def act(self, organizations: OrganizationQuerySet, options: Any) -> Iterator[fleet.Result]:
        which: fleet.Which = "newest"
        if options["unverified"] or options["bad"]:
            which = "bad" if options["bad"] else "unverified"
        return fleet.verify(organizations, parallel=options["parallel"], which=which)

    def enqueue(self, organizations: OrganizationQuerySet) -> int:
        return enqueueing.verify(organizations)

    def sentence(self, result: fleet.Result) -> str:
        return f"{result.folder} is good"
