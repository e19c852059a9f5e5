"""Detects whether this master database is the installation's own or a copy.

The master records its server's system identifier and its own OID. A master that was restored into
another database, or on another server, finds other values: the original may still run and use the
same databases. A copy touches none of them until `manage.py claim_installation`.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import connections

from organizations.errors import InstallationUnclaimed

Connection = psycopg.Connection[tuple[Any, ...]]

# pg_control_system() is open to every role (PostgreSQL 16 to 18).
STATEMENT = """
SELECT i.key, i.system_identifier, i.database_oid, c.system_identifier, d.oid::bigint
FROM pg_control_system() AS c, pg_database AS d LEFT JOIN installation AS i ON i.id = 1
WHERE d.datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """The recorded location of the master, and the actual one. key: empty if none is recorded."""

    key: str
    recorded_server: int
    recorded_database: int
    server: int
    database: int

    @property
    def is_copy(self) -> bool:
        recorded = (self.recorded_server, self.recorded_database)
        return recorded != (self.server, self.database)

    @property
    def is_on_another_server(self) -> bool:
        return self.recorded_server != self.server


def standing() -> Standing:
    """The current standing. Makes one query."""
    with connections["default"].cursor() as cursor:
        cursor.execute(STATEMENT)
        row = cursor.fetchone()
    return of_row(row)


def of_row(row: tuple[Any, ...] | None) -> Standing:
    """The standing from STATEMENT's row."""
    key, *numbers = row or ("", 0, 0, 0, 0)
    return Standing(key or "", *(number or 0 for number in numbers))


_was_sure = False


def require() -> None:
    """Raise InstallationUnclaimed in a copy of a master. Checked once per process."""
    global _was_sure
    if not _was_sure:
        if standing().is_copy:
            raise InstallationUnclaimed
        _was_sure = True
