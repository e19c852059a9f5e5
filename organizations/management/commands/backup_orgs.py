"""`manage.py backup_orgs NAME… | --all`: backs up organizations."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.filesize import decimal

from organizations import lifecycle
from organizations.background import enqueueing
from organizations.backups import fleet
from organizations.document import Document
from organizations.errors import OrganizationError


class Command(BaseCommand):
    """The same as the nightly jobs; a failure does not affect the others."""

    help = (
        'Back up organizations into STORAGES["backups"]: each database, as its own role, and its '
        "files. Exit code 1: some were not backed up."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="the organizations")
        parser.add_argument("--all", action="store_true", help="all organizations")
        parser.add_argument(
            "--parallel", type=int, default=2, metavar="N", help="how many at a time (default: 2)"
        )
        parser.add_argument("--enqueue", action="store_true", help="enqueue jobs instead")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["names"]) == options["all"]:
            raise CommandError("Name organizations, or use --all.")
        if options["parallel"] < 1:
            raise CommandError("--parallel must be 1 or more.")
        try:
            organizations = lifecycle.reachable_organizations(options["names"])
            if options["enqueue"]:
                self.stdout.write(f"{enqueueing.back_up(organizations)} jobs enqueued.")
                return
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        document = Document(self.stdout.write, "backups") if options["json"] else None
        results = []
        for result in fleet.back_up(organizations.order_by("pk"), parallel=options["parallel"]):
            results.append(result)
            if document is not None:
                document.add(asdict(result))
            elif result.error:
                self.stderr.write(f"{result.name}: {result.error}")
            else:
                self.stdout.write(f"{result.name}: {decimal(result.bytes)} in {result.folder}")
        failed = sum(bool(result.error) for result in results)
        if document is not None:
            document.end({"failed": failed})
        if failed:
            raise CommandError(f"{failed} of {len(results)} were not backed up.")
