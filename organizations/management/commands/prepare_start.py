"""`manage.py prepare_start`: prepares the master before a web server starts."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations.errors import OrganizationError
from organizations.keys import note_signing_keys
from organizations.provisioning.database import close_master
from organizations.provisioning.server import open_session


class Command(BaseCommand):
    """What a web server does before it listens. No organization can hold it up."""

    help = (
        "Close the master database to PUBLIC, where the application's role owns it, and note in "
        "the audit trail where other keys sign tokens. Each start of a web server runs it."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with open_session() as session:
                close_master(session)
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        note_signing_keys()
