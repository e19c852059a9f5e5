"""`manage.py claim_installation [--new]`: puts a restored master database into use."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations.errors import NothingToClaim, OrganizationError
from organizations.postgres import installation
from organizations.recovery import claiming


class Command(BaseCommand):
    """For a master that was restored into another database or on another server."""

    help = (
        "Put this master database, which is a copy, into use. Until then it drops, changes and "
        "mails nothing, and no worker starts. Stop all processes of the application first, also "
        "those of the original if this one replaces it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--new",
            action="store_true",
            help="the original stays in use: become a separate installation. If both are on one "
            "server, the databases stay the original's, and the organizations are suspended here",
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        standing = installation.standing()
        if not standing.is_copy:
            if options["new"]:
                raise CommandError(str(NothingToClaim()))
            self.stdout.write(str(NothingToClaim()))
            return
        where = "another server than the recorded one"
        if not standing.is_on_another_server:
            where = "the recorded server, another database"
        self.stdout.write(f"This master database is on {where}.")
        if not options["yes"]:
            what = "a new installation" if options["new"] else "the only one"
            try:
                typed = input(f"Type `claim` to make this master {what}: ")
            except EOFError:
                typed = ""
            if typed.strip() != "claim":
                raise CommandError("Not confirmed. Nothing was changed.")
        try:
            claimed = claiming.claim_installation(new=options["new"])
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Claimed. {claimed.identified} roles identified, {claimed.closed} organizations "
            f"suspended; the next organization's id is {claimed.next_id} or higher. "
            "Now run: manage.py check_orgs"
        )
