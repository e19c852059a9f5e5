"""`manage.py delete_org NAME`: deletes an organization."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations import lifecycle
from organizations.errors import OrganizationError
from organizations.models import Organization


class Command(BaseCommand):
    """Deletes an organization's data; its row stays as a tombstone."""

    help = "Delete an organization: drops its database and role. Asks you to type its name."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the organization's name, in any spelling")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = Organization.objects.live().named(options["name"]).first()
        if organization is None:
            raise CommandError(f"There is no organization called {options['name']!r}.")
        if not options["yes"]:
            self.stdout.write(
                f"This deletes the database {organization.database_name} and everything in it."
            )
            try:
                typed = input(f"Type the organization's name ({organization.name}) to continue: ")
            except EOFError:
                typed = ""
            if typed.strip() != organization.name:
                raise CommandError("The name does not match. Nothing was deleted.")
        try:
            lifecycle.delete_organization(organization)
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Deleted organization {organization.name}.")
