"""Databases that PostgreSQL does not drop: somebody is in them, or they have a subscription."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.conftest import Superuser
from tests.plugin import SERVER


@contextmanager
def visited(database: str) -> Iterator[Superuser]:
    """A superuser's session in it, like psql or pg_dump: only a superuser can end it."""
    parameters: dict[str, Any] = SERVER.superuser_parameters(database)
    with psycopg.connect(**parameters, autocommit=True) as visit:
        yield visit


@contextmanager
def subscribed(visit: Superuser) -> Iterator[None]:
    """A subscription in the visited database.

    For a session PostgreSQL waits 5 s before it refuses the drop. For a subscription it refuses it
    at once, with the same SQLSTATE (55006; dropdb in dbcommands.c).
    """
    visit.execute(
        "CREATE SUBSCRIPTION stays CONNECTION 'dbname=nowhere' PUBLICATION news "
        "WITH (connect = false, slot_name = NONE)"
    )
    try:
        yield
    finally:
        visit.execute("DROP SUBSCRIPTION stays")


@contextmanager
def undroppable(database: str) -> Iterator[None]:
    """Each drop of the database is refused at once, and whoever is in it stays there."""
    with visited(database) as visit, subscribed(visit):
        yield
