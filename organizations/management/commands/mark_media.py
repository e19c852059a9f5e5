"""`manage.py mark_media`: says that MEDIA_ROOT of this host is the folder of all files."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from organizations.errors import OrganizationError
from organizations.postgres.sessions import open_session
from organizations.provisioning import media


class Command(BaseCommand):
    """Once after an upgrade, and wherever the folder is another one. May be repeated."""

    help = (
        "Leave this installation's mark in MEDIA_ROOT, which is made if need be: an empty file. A "
        "host without it does nothing that needs the organizations' files. Mount the disk first: "
        "what is marked is taken for the folder that holds all of them."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with open_session() as session:
                _ = session.installation  # Not on behalf of the original of a copied master.
            mark = media.mark_folder()
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise CommandError(f"{settings.MEDIA_ROOT} cannot be marked: {why}.") from error
        self.stdout.write(f"Marked: {mark}")
