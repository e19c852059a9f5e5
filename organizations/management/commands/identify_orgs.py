"""`manage.py identify_orgs [ORG…]`: writes missing identities of database roles."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations.errors import OrganizationError, OrganizationNotFound
from organizations.models import Organization
from organizations.recovery import claiming


class Command(BaseCommand):
    """Run it once, after upgrading from a version without identities; may be repeated."""

    help = (
        "Write each role's missing identity: whose database it owns (COMMENT ON ROLE). Until then "
        "that database is never dropped. Do not run it in a master that was restored beside the "
        "one in use: it would take that one's databases. Name an organization whose database was "
        "restored by hand. Exit code 1: some were refused."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="ORG", help="only these (default: all)")

    def handle(self, *args: Any, **options: Any) -> None:
        done = refused = 0
        try:
            ids = [_find(name) for name in options["names"]] or None
            for each in claiming.identify_organizations(ids):
                done += not each.refused
                refused += bool(each.refused)
                self.stdout.write(f"{each.name}: {each.refused or 'identified'}")
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{done} identified.")
        if refused:
            raise CommandError(f"{refused} refused and left unchanged.")


def _find(name: str) -> int:
    organization = Organization.objects.live().known_as(name).first()
    if organization is None:
        raise OrganizationNotFound(name)
    return organization.pk
