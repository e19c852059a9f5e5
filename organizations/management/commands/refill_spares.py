"""`manage.py refill_spares`: makes spare databases."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from organizations.background import enqueueing
from organizations.errors import OrganizationError
from organizations.management.stopping import UntilStopped
from organizations.postgres.sessions import open_session
from organizations.provisioning import code, refill


class Command(BaseCommand):
    """Makes spare databases ahead of sign-ups. Several processes take turns."""

    help = "Make spare databases until ORG_SPARE_DATABASES are ready, and drop surplus ones."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--loop", action="store_true", help="keep running, and refill when one is taken"
        )
        parser.add_argument(
            "--with-parent",
            action="store_true",
            help="with --loop: exit when the parent process exits",
        )
        parser.add_argument("--enqueue", action="store_true", help="enqueue a job instead")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["enqueue"]:
            if options["loop"]:
                raise CommandError(
                    "--enqueue cannot be combined with --loop: workers refill by themselves."
                )
            self._enqueue()
            return
        if not options["loop"]:
            self._once()
            return
        until = UntilStopped(with_parent=options["with_parent"])
        refill.run(goes_on=until.goes_on, pause=until.pause)

    def _enqueue(self) -> None:
        try:
            number = enqueueing.refill()
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(enqueueing.said(number))

    def _once(self) -> None:
        try:
            code.refuse_incoherent_migrations()
            with open_session() as session:
                made, dropped = refill.fill(session)
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{settings.ORG_SPARE_DATABASES} wanted: {made} made, {dropped} dropped.")
