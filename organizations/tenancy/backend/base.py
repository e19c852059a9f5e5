"""PostgreSQL for organization databases: no cursor unless its organization is the active one.

The router decides where a query goes; this is the wall behind it. It stops what does not ask the
router: `using=`, a queryset bound to an alias, `connections[alias]`, an object kept too long.
"""

import traceback
from typing import Any

from django.db import connections
from django.db.backends.postgresql import base

from organizations.tenancy.context import peek
from organizations.tenancy.errors import NoTenant, WrongTenant


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, which hands out cursors only inside the organization's block."""

    def _refuse_strangers(self) -> None:
        tenant = peek()
        if tenant is None:
            raise NoTenant(f"The database {self.alias}")
        if tenant.alias != self.alias:
            raise WrongTenant("This query", belongs_to=self.alias, active=tenant.alias)

    def ensure_connection(self) -> None:
        """Connect where there is no connection, or one to where the database was.

        Every cursor and every transaction begins here (Django 5.2, db/transaction.py asks for the
        autocommit mode before it enters the block).
        """
        tenant = peek()
        # Outside of the block it is not used, and whoever closes it must not open another.
        inside = tenant is not None and tenant.alias == self.alias
        current = connections.settings.get(self.alias, self.settings_dict)
        if inside and current is not self.settings_dict and not self.in_atomic_block:
            # Left by an async task in a thread that no block ends in; since then the alias was
            # registered anew, and its database may have moved.
            self.close()
            self.settings_dict = current
        super().ensure_connection()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect.

        Ctrl-C can come in the middle of the log-in, and its traceback would keep that half of a
        connection. A backend that waits for the rest answers no barrier, so DROP DATABASE, which
        asks every backend of the server, would wait for authentication_timeout (PostgreSQL 18,
        storage/ipc/procsignal.c and libpq/be-secure.c).
        """
        try:
            return super().get_new_connection(conn_params)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            traceback.clear_frames(interrupt.__traceback__)
            raise

    def cursor(self) -> Any:
        """A cursor. Raises NoTenant or WrongTenant."""
        self._refuse_strangers()
        return super().cursor()

    def chunked_cursor(self) -> Any:
        """A server-side cursor. Raises NoTenant or WrongTenant."""
        self._refuse_strangers()
        return super().chunked_cursor()
