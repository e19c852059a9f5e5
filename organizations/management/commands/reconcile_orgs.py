"""`manage.py reconcile_orgs`: cleans up after crashed processes."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations import lifecycle
from organizations.background import enqueueing
from organizations.errors import OrganizationError
from organizations.tenancy import counters


class Command(BaseCommand):
    """Cleans up after crashed processes. Workers do the same every five minutes."""

    help = (
        "Clean up after crashed processes: sign-ups, deletions, restores, archives, backups, "
        "suspensions, rolled back migrations, templates, spare databases. Safe at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--wait",
            type=float,
            default=10.0,
            metavar="SECONDS",
            help="how long to wait for one that another process works on (default: 10)",
        )
        parser.add_argument("--enqueue", action="store_true", help="enqueue a job instead")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["enqueue"]:
                self.stdout.write(enqueueing.said(enqueueing.platform_job("reconcile")))
                return
            outcome = lifecycle.reconcile_organizations(wait_seconds=options["wait"])
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        counters.get().prune()
        for verb, names in outcome.items():
            for name in names:
                self.stdout.write(f"{verb}: {name}")
        if not any(outcome.values()):
            self.stdout.write("Every organization is in order.")
        if outcome["failed"]:
            # Its own exit code: all the others are in order.
            raise CommandError("Some could not be cleaned up. See the log.", returncode=2)
