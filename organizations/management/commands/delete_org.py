"""`manage.py delete_org NAME`: deletes an organization."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from organizations import lifecycle
from organizations.errors import OrganizationNotFound
from organizations.management.acts import DeletedActCommand
from organizations.models import Organization


class Command(DeletedActCommand):
    """The same as POST /api/v1/organizations/{id}/delete/, and more: it can drop at once."""

    help = (
        "Delete an organization: ends all access, and keeps its database aside for "
        "ORG_DELETION_GRACE_DAYS, in which undelete_org brings it back; then it is dropped. Asks "
        "you to type its name."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument(
            "--free-name",
            action="store_true",
            help="let others take its name and former names while it is kept",
        )
        parser.add_argument(
            "--now",
            action="store_true",
            help="drop it now; needs a verified backup from the last 24 hours",
        )
        parser.add_argument(
            "--without-backup", action="store_true", help="with --now: even without a backup"
        )

    def named(self, name: str) -> Organization:
        # By its current name only.
        found: Organization | None = Organization.objects.live().named(name).first()
        if found is None:
            raise OrganizationNotFound(name)
        return found

    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        if options["without_backup"] and not options["now"]:
            raise CommandError("--without-backup needs --now.")
        if options["now"] and options["free_name"]:
            raise CommandError("Leave out --free-name: with --now the name is free.")
        if not options["yes"]:
            is_beside = organization.read_only_until is not None
            drops = options["now"] or is_beside or not settings.ORG_DELETION_GRACE_DAYS
            self._ask(organization, drops=drops)
        lifecycle.delete_organization(
            organization,
            free_name=options["free_name"],
            now=options["now"],
            without_backup=options["without_backup"],
        )
        if organization.kept_until is None:
            return f"Deleted organization {organization.name}."
        return (
            f"Deleted organization {organization.name}. Until "
            f"{organization.kept_until:%Y-%m-%d %H:%M} UTC undelete_org brings it back "
            f"(--id {organization.pk})."
        )

    def _ask(self, organization: Organization, *, drops: bool) -> None:
        database = organization.database_name
        self.stdout.write(
            f"This deletes the database {database} and everything in it."
            if drops
            else f"This ends all access, and keeps the database {database} aside for "
            f"{settings.ORG_DELETION_GRACE_DAYS} days."
        )
        try:
            typed = input(f"Type the organization's name ({organization.name}) to continue: ")
        except EOFError:
            typed = ""
        if typed.strip() != organization.name:
            raise CommandError("The name does not match. Nothing was deleted.")
