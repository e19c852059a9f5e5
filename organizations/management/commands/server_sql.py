"""`manage.py server_sql`: prints the SQL that a superuser runs once."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from organizations.checks import server
from organizations.postgres.superuser_sql import (
    OWNER_ROLE,
    connect_command,
    master_statements,
    server_statements,
)


class Command(BaseCommand):
    """Queries no database: it runs before the role may connect to one."""

    help = (
        "Print SQL for a superuser to run once on the server: the application role's rights, "
        "CONNECT revoked from PUBLIC, and an owner for the audit trail."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        master = settings.DATABASES["default"]
        role, database = master["USER"], master["NAME"]
        if role == OWNER_ROLE:
            raise CommandError(
                f"MASTER_DB_USER is {OWNER_ROLE}, the role that owns the audit trail and never "
                "logs in. Use another role for the application."
            )
        if "\n" in database or "\r" in database:
            raise CommandError(
                "psql cannot connect to a database whose name contains a line break."
            )
        self.stdout.write("-- Run as a superuser, in psql. May be run again.")
        for statement in server_statements(application_role=role, master_database=database):
            self.stdout.write(f"{statement.as_string()};")
        self.stdout.write(
            "-- Connections reserved for the application, after the next restart of the server "
            "(on a managed\n-- server, change the setting elsewhere):\n"
            f"-- ALTER SYSTEM SET reserved_connections = {server.own_connections()};"
        )
        self.stdout.write(connect_command(database))
        for statement in master_statements(application_role=role):
            self.stdout.write(f"{statement.as_string()};")
