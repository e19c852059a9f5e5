"""What a process needs before it works: a server that runs and can be used."""

import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

logger = logging.getLogger(__name__)

# What a command meets first: one of these is missing where the master was not migrated.
_FIRST_TABLES = ("organizations", "audit_entries")
# Between two looks for a master that is away.
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


@contextmanager
def database_ready(*, waits: bool = False) -> Iterator[None]:
    """The configured database, reachable and sufficient, while the block runs.

    Starts the embedded server where no other is configured, and stops it behind the block unless
    another process uses it. Exits with one sentence where the database cannot be used; with `waits`
    one that is away is waited for, as those wait who run already.
    """
    if not settings.EMBEDDED_POSTGRES:
        _exit_on_problem(waits=waits)
        _limit_waiting()
        with _explained():
            yield
        return
    from orgmgmt import embedded

    server = embedded.EmbeddedPostgres(settings.DATA_DIR)
    try:
        server.acquire()
    except embedded.EmbeddedError as error:
        sys.exit(f"Embedded PostgreSQL: {error}")
    try:
        # For `dbshell`, and whoever types psql in a `shell`.
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
    """Let no statement of this process wait for a lock without an end.

    A migration above all: while it waits, everybody else waits behind it.
    """
    from django.db import connections

    from organizations.provisioning.server import lock_limit

    entry = connections.settings["default"]
    entry["OPTIONS"] = {**entry.get("OPTIONS", {}), "options": lock_limit()}


@contextmanager
def command_recorded(name: str, *, changes: bool) -> Iterator[None]:
    """What is recorded inside the block is the act of whoever runs this command.

    One that can change something is an entry by itself, written first: by its name alone, since
    arguments hold names, addresses and passwords. The `migrate` that makes the trail's table is
    recorded behind itself.
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
    """Not where `migrate` went to a point before it, or printed its plan."""
    from django.db import connections

    return "audit_entries" in connections["default"].introspection.table_names()


@contextmanager
def _explained() -> Iterator[None]:
    """Exit with a sentence where the block meets a database that is gone, busy or without tables.

    The server's own words go to the log: they name hosts, databases and roles.
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
            "The database could not be used, or ended the connection or the statement. The log "
            "says why; what was under way is not done. Try again."
        )


def _exit_on_problem(*, waits: bool = False) -> None:
    import django

    from organizations.provisioning import preflight

    pause = _FIRST_PAUSE_SECONDS
    while (found := preflight.look()) is not None:
        if not (waits and found.passes):
            sys.exit(str(found))
        django.setup()  # For its logging.
        logger.warning("waiting for the master database", extra={"reason": str(found)})
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
