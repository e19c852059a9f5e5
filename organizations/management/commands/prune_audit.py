"""`manage.py prune_audit`: deletes old audit entries."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from organizations import audit


class Command(BaseCommand):
    """Enforces AUDIT_RETENTION_DAYS; for a daily job."""

    help = "Delete audit entries older than AUDIT_RETENTION_DAYS."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = audit.prune()
        except DatabaseError as error:
            raise CommandError(
                f"Old entries could not be deleted ({type(error).__name__}). The table may be "
                "locked: try again. See `manage.py check --deploy`."
            ) from error
        self.stdout.write(f"Deleted {count} audit entries.")
