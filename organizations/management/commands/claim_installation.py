"""`manage.py claim_installation [--new]`: puts a restored master database into use."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations import claiming
from organizations.errors import NothingToClaim, OrganizationError
from organizations.provisioning import installation


class Command(BaseCommand):
    """For a master that was restored into another database, or on another server."""

    help = (
        "Say that this master database, which is a copy, is at home where it is now. Until then "
        "it drops, changes and mails nothing, and its worker does not start. Stop all processes "
        "of the application first, those of the other master too where this one takes its place."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--new",
            action="store_true",
            help="the master that this one was copied from lives on: be an installation of one's "
            "own. Where it is on the same server, its databases stay its own: the organizations "
            "are suspended here",
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
        self.stdout.write(f"This master is on {where}.")
        if not options["yes"]:
            what = "a new installation" if options["new"] else "the only one of its kind"
            try:
                typed = input(f"Type `claim` to make this master {what}: ")
            except EOFError:
                typed = ""
            if typed.strip() != "claim":
                raise CommandError("It was not typed. Nothing was changed.")
        try:
            claimed = claiming.claim_installation(new=options["new"])
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Claimed. {claimed.identified} roles identified, {claimed.closed} organizations "
            f"suspended; the next organization is number {claimed.next_id} or above. "
            "Now run: manage.py check_orgs"
        )
