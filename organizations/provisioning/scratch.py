"""Throw-away databases for restores and verifications, each with its own role.

The role owns nothing else. Each has a row of a spare database that is never ready and has no
fingerprint. Whoever works in it holds its lock; without the lock it is a leftover, which
reconcile_orgs drops.
"""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from organizations.models import Server, SpareDatabase
from organizations.naming import role_name, system_database_name
from organizations.postgres import transfer
from organizations.postgres.databases import ensure_database
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import ServerSession
from organizations.secrets import seal, unseal

from . import spares

logger = logging.getLogger(__name__)


@contextmanager
def scratch(session: ServerSession, *, database: str = "") -> Iterator[SpareDatabase]:
    """An empty database. It is dropped after the block, with the files of its key, unless its row
    is gone: then it was taken for good.

    database: its name, if it is to be taken. Raises what PostgreSQL raises; then only what its row
    names is left.
    """
    _ = session.installation
    password = secrets.token_urlsafe(32)
    spare = SpareDatabase(
        server=Server.of_master(),
        database_name=database
        or system_database_name("spare", master=session.connection.info.dbname),
        role_name=role_name(),
        sealed_password=seal(password),
        fingerprint=spares.SCRATCH,
    )
    # Before the row: reconcile_orgs drops what nobody works on.
    session.try_lock(spares.scratch_lock(spare.key))
    try:
        spare.save(force_insert=True)
        ensure_role(session, role=spare.role_name, password=password, key=spare.key)
        ensure_database(session, database=spare.database_name, role=spare.role_name, key=spare.key)
        yield spare
    finally:
        try:
            if spare.pk is not None:
                spares.drop(session, spare)
            session.unlock(spares.scratch_lock(spare.key))
        except Exception:
            # Its row stays, and reconcile_orgs drops it.
            logger.exception("throw-away database not dropped", extra={"spare": spare.pk})


@contextmanager
def scratch_database(session: ServerSession) -> Iterator[dict[str, Any]]:
    """psycopg's parameters of an empty database, as its owner; it is dropped after the block.

    Raises what PostgreSQL raises; then only what its row names is left.
    """
    with scratch(session) as spare:
        yield where(spare)


def where(spare: SpareDatabase) -> dict[str, Any]:
    """psycopg's parameters of the database, as its owner."""
    password = unseal(spare.sealed_password, owner=str(spare))
    return transfer.parameters(spare.database_name, spare.role_name, password)
