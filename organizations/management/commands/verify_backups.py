"""`manage.py verify_backups NAME… | --all`: verifies backups by restoring them."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations import lifecycle
from organizations.background import enqueueing
from organizations.backups import fleet
from organizations.document import Document
from organizations.errors import OrganizationError


class Command(BaseCommand):
    """Restores each into a throw-away database, compares, and drops it."""

    help = (
        "Verify the newest good backup of organizations: signature, hashes, and a restore into a "
        "throw-away database. Exit code 1: some cannot be trusted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="the organizations")
        parser.add_argument("--all", action="store_true", help="all organizations")
        parser.add_argument(
            "--unverified", action="store_true", help="every good backup not verified yet"
        )
        parser.add_argument(
            "--parallel", type=int, default=1, metavar="N", help="how many at a time (default: 1)"
        )
        parser.add_argument("--enqueue", action="store_true", help="enqueue jobs instead")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["names"]) == options["all"]:
            raise CommandError("Name organizations, or use --all.")
        if options["enqueue"] and options["unverified"]:
            raise CommandError("--enqueue verifies the newest one, without --unverified.")
        if options["parallel"] < 1:
            raise CommandError("--parallel must be 1 or more.")
        try:
            organizations = lifecycle.reachable_organizations(options["names"])
            if options["enqueue"]:
                self.stdout.write(f"{enqueueing.verify(organizations)} jobs enqueued.")
                return
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        document = Document(self.stdout.write, "verifications") if options["json"] else None
        results = []
        for result in fleet.verify(
            organizations.order_by("pk"),
            parallel=options["parallel"],
            unverified=options["unverified"],
        ):
            results.append(result)
            if document is not None:
                document.add(asdict(result))
            elif result.error:
                self.stderr.write(f"{result.name}: {result.error}")
            else:
                self.stdout.write(f"{result.name}: {result.folder} is good")
        failed = sum(bool(result.error) for result in results)
        if document is not None:
            document.end({"failed": failed})
        if failed:
            raise CommandError(f"{failed} of {len(results)} backups were not verified.")
