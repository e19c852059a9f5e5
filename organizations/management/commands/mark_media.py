"""`manage.py mark_media`: marks MEDIA_ROOT of this host as the folder of all files."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from organizations.errors import OrganizationError
from organizations.postgres.sessions import open_session
from organizations.provisioning import media


class Command(BaseCommand):
    """Run once after an upgrade, and wherever the folder is another one. May be repeated."""

    help = (
        "Leave this installation's mark, an empty file, in MEDIA_ROOT (created if missing). A host "
        "without it does nothing that needs the organizations' files. Mount the disk first: the "
        "marked folder counts as the one that holds all of them."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with open_session() as session:
                _ = session.installation  # Refused in a copy of a master.
            mark = media.mark_folder()
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise CommandError(f"{settings.MEDIA_ROOT} cannot be marked: {why}.") from error
        self.stdout.write(f"Marked: {mark}")
