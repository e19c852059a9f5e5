"""`manage.py server_sql`"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from organizations.provisioning.server_sql import server_statements


class Command(BaseCommand):
    """Asks no database: it runs before the role may connect to one."""

    help = (
        "Print the SQL that a superuser runs once on the server: the application role's rights, "
        "and CONNECT taken from PUBLIC."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        master = settings.DATABASES["default"]
        self.stdout.write("-- Run as a superuser, in psql. May be run again.")
        for statement in server_statements(
            application_role=master["USER"], master_database=master["NAME"]
        ):
            self.stdout.write(f"{statement.as_string()};")
