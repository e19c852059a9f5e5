"""`manage.py reset_credentials [ORG…]`: gives database roles new passwords."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations.errors import OrganizationError, OrganizationNotFound
from organizations.models import Organization
from organizations.recovery import credentials


class Command(BaseCommand):
    """For lost keys, and for leaked database passwords."""

    help = (
        "Give organizations' database roles new passwords, encrypted with the first of "
        "CREDENTIAL_KEYS. Without names: those whose stored password no key can decrypt. Data and "
        "users' passwords do not change. Exit code 1: some could not be reset."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "names", nargs="*", metavar="ORG", help="these, whether readable or not"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            chosen = [_find(name) for name in options["names"]] or credentials.unreadable()
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        done = failed = 0
        for organization in chosen:
            try:
                is_reset = credentials.reset(organization)
            except OrganizationError as error:
                failed += 1
                self.stderr.write(f"{organization.name}: {error}")
            else:
                done += is_reset
                said = "password reset" if is_reset else f"{organization.status}: nothing to reset"
                self.stdout.write(f"{organization.name}: {said}")
        if not options["names"]:
            spares, sign_ups = credentials.forget_the_rest()
            self.stdout.write(
                f"{done} reset; given up: {spares} spare databases, {sign_ups} waiting sign-ups"
            )
        if failed:
            raise CommandError(f"{failed} could not be reset.")


def _find(name: str) -> Organization:
    organization = Organization.objects.live().known_as(name).first()
    if organization is None:
        raise OrganizationNotFound(name)
    return organization
