"""PostgreSQL for the master database, whose health is looked at without a round trip."""

from django.db.backends.postgresql import base

from organizations.tenancy.pool import is_alive


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, but for CONN_HEALTH_CHECKS.

    Django asks `SELECT 1` before the first statement of each request: a fifth of a short request's
    time. What a server does to an idle session is end it, and that shows on the socket.
    """

    def is_usable(self) -> bool:
        """Whether the connection can be used; behind an error the server is asked."""
        if self.errors_occurred:
            return super().is_usable()
        return is_alive(self.connection)
