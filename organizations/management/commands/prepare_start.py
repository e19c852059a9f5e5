"""`manage.py prepare_start`: prepares the master before a web server starts."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations.errors import OrganizationError
from organizations.postgres.databases import close_master
from organizations.postgres.sessions import open_session
from organizations.provisioning import media
from organizations.secrets import note_signing_keys


class Command(BaseCommand):
    """Runs before a web server listens. No organization can block it."""

    help = (
        "Close the master database to PUBLIC, if the application's role owns it, record "
        "changed signing keys in the audit trail, and mark MEDIA_ROOT of a new installation. "
        "Runs at each start of a web server."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with open_session() as session:
                close_master(session)
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        note_signing_keys()
        media.mark_first()
