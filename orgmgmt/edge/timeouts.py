"""Database timeouts for requests: statement_timeout and lock_timeout.

The statement timeout is only for processes that serve requests. Migrations and provisioning have
no such limit: they use direct sessions (postgres/sessions.py) or lift it
(provisioning/migrations.py). The lock timeout is for all.
"""

from django.conf import settings
from django.db import connections

from organizations.tenancy import guard


def limit_connections() -> None:
    """Set both timeouts for all connections that this process opens from now on.

    As a startup parameter: it costs no statement, and RESET returns to it. Organizations'
    connections copy it from the master's entry (postgres/databases.py). An organization could
    lift it, so the client also has its own timeout (organizations/tenancy/guard.py).
    """
    guard.serve_requests()
    milliseconds = {
        "statement_timeout": settings.STATEMENT_TIMEOUT_SECONDS * 1000,
        "lock_timeout": settings.LOCK_TIMEOUT_SECONDS * 1000,
    }
    options = " ".join(f"-c {name}={value}" for name, value in milliseconds.items())
    entry = connections.settings["default"]
    entry["OPTIONS"] = {**entry.get("OPTIONS", {}), "options": options}
