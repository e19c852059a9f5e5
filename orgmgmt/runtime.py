"""Process start-up: starts the embedded server if needed and checks the database."""

import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

logger = logging.getLogger(__name__)

# One of these is missing if the master was not migrated.
_FIRST_TABLES = ("organizations", "audit_entries")
# Between two checks for an unreachable master.
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


@contextmanager
def database_ready(*, waits: bool = False) -> Iterator[None]:
    """Run the block once the configured database can be used.

    Starts the embedded server if no other is configured, and stops it afterwards unless another
    process uses it. Exits with one sentence if the database cannot be used; with `waits` it waits
    for an unreachable one, as running processes do.
    """
    if not settings.EMBEDDED_POSTGRES:
        _exit_on_problem(waits=waits)
        _limit_waiting()
        with _explained():
            yield
        return
    from .embedded import postgres

    server = postgres.EmbeddedPostgres(settings.DATA_DIR)
    try:
        server.acquire()
    except postgres.EmbeddedError as error:
        sys.exit(f"Embedded PostgreSQL: {error}")
    try:
        # For `dbshell`, and for psql in a `shell`.
        os.environ["PATH"] = f"{server.bin_dir}{os.pathsep}{os.environ.get('PATH', '')}"
        _exit_on_problem()
        _limit_waiting()
        with _explained():
            yield
    finally:
        from django.db import connections

        connections.close_all()
        server.release()


def _limit_waiting() -> None:
    """Limit how long a statement of this process waits for a lock.

    Above all for migrations: while one waits, all other queries queue after it.
    """
    from django.db import connections

    from organizations.postgres.sessions import lock_limit

    entry = connections.settings["default"]
    entry["OPTIONS"] = {**entry.get("OPTIONS", {}), "options": lock_limit()}


@contextmanager
def command_recorded(name: str, *, changes: bool) -> Iterator[None]:
    """Attribute audit entries written inside the block to whoever runs this command.

    A command that can change something is itself recorded first, without its arguments, which can
    contain names, addresses and passwords. The `migrate` that creates the audit table is recorded
    afterwards.
    """
    import django
    from django.core.management import get_commands
    from django.db import ProgrammingError

    django.setup()
    from organizations.tenancy import trail

    with trail.acting(trail.Origin("command", os.getuid(), None, uuid.uuid4().hex)):
        if not changes or name not in get_commands():
            yield
            return
        late = False
        try:
            trail.record("command.run", facts={"command": name})
        except ProgrammingError:
            if name != "migrate":
                raise
            late = True
        yield
        if late and _trail_exists():
            trail.record("command.run", facts={"command": name})


def _trail_exists() -> bool:
    """False if `migrate` went back to before the audit table, or only printed its plan."""
    from django.db import connections

    return "audit_entries" in connections["default"].introspection.table_names()


@contextmanager
def _explained() -> Iterator[None]:
    """Exit with one sentence if the database is gone, busy or without tables.

    The server's message goes to the log, since it names hosts, databases and roles.
    """
    from django.db import InterfaceError, OperationalError, ProgrammingError
    from psycopg.errors import UndefinedTable

    try:
        yield
    except ProgrammingError as error:
        missing = isinstance(error.__cause__, UndefinedTable)
        if not missing or not any(f'relation "{name}"' in str(error) for name in _FIRST_TABLES):
            raise
        sys.exit("The master database lacks tables of this version. Run `manage.py migrate`.")
    except (OperationalError, InterfaceError) as error:
        logger.error("database unavailable", exc_info=error)
        sys.exit(
            "The database was not available, or ended the connection or the statement. The log "
            "says why. The command did not finish. Try again."
        )


def _exit_on_problem(*, waits: bool = False) -> None:
    import django

    from organizations.postgres import preflight

    pause = _FIRST_PAUSE_SECONDS
    while (found := preflight.look()) is not None:
        if not (waits and found.passes):
            sys.exit(str(found))
        django.setup()  # For its logging.
        logger.warning("waiting for the master database", extra={"reason": str(found)})
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
