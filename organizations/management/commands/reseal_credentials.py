"""`manage.py reseal_credentials`: re-encrypts stored credentials."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations.errors import OrganizationError
from organizations.recovery import credentials


class Command(BaseCommand):
    """The middle step of a key rotation."""

    help = (
        "Re-encrypt all stored credentials with the first of CREDENTIAL_KEYS. To rotate: put a new "
        "key first, restart, run this, then remove the old key."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = credentials.reseal_credentials()
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Re-encrypted the credentials of {count} organizations with the first key."
        )
