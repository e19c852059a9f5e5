"""What a process needs before it works: a server that runs and can be used."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings


@contextmanager
def database_ready() -> Iterator[None]:
    """The configured database, reachable and sufficient, while the block runs.

    Starts the embedded server where no other is configured, and stops it behind the block unless
    another process uses it. Exits with one sentence where the database cannot be used.
    """
    if not settings.EMBEDDED_POSTGRES:
        _exit_on_problem()
        with _migrated():
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
        with _migrated():
            yield
    finally:
        from django.db import connections

        connections.close_all()
        server.release()


@contextmanager
def _migrated() -> Iterator[None]:
    """Exit with a sentence where the block meets a master database without its tables."""
    from django.db import ProgrammingError
    from psycopg.errors import UndefinedTable

    try:
        yield
    except ProgrammingError as error:
        missing = isinstance(error.__cause__, UndefinedTable)
        if not missing or 'relation "organizations"' not in str(error):
            raise
        sys.exit("The master database has no tables yet. Run `manage.py migrate`.")


def _exit_on_problem() -> None:
    from organizations.provisioning import preflight

    if problem := preflight.problem():
        sys.exit(problem)
