"""`manage.py prune_audit`: deletes old audit entries."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from organizations import audit


class Command(BaseCommand):
    """What AUDIT_RETENTION_DAYS promises; for a daily job."""

    help = "Delete the audit entries that are older than AUDIT_RETENTION_DAYS."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = audit.prune()
        except DatabaseError as error:
            raise CommandError(
                f"The database did not let old entries be deleted ({type(error).__name__}). "
                "Somebody may hold the table: try again. See `manage.py check --deploy`."
            ) from error
        self.stdout.write(f"Deleted {count} entries of the audit trail.")
