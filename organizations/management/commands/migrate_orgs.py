"""`manage.py migrate_orgs`"""

import shlex
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations import services
from organizations.errors import OrganizationError
from organizations.models import Organization
from organizations.provisioning.migrations import migrate_tenant


class Command(BaseCommand):
    """One organization after the other; a failure leaves the others alone."""

    help = "Bring the organizations' databases to the code's migrations."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", help="these alone (default: all)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            chosen = [services.find_organization(name) for name in options["names"]]
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        failed = []
        for organization in chosen or Organization.objects.usable().iterator():
            try:
                migrate_tenant(organization.tenant)
            except Exception as error:
                failed.append(shlex.quote(organization.name))
                self.stderr.write(f"{organization.slug}: {type(error).__name__}: {error}")
            else:
                self.stdout.write(f"{organization.slug}: up to date")
        if failed:
            raise CommandError(
                f"{len(failed)} failed. Repair, then: manage.py migrate_orgs {' '.join(failed)}"
            )
