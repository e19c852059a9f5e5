"""Keeps ORG_SPARE_DATABASES spare databases ready."""

import logging
import secrets
import time
from collections.abc import Callable, Collection

import psycopg
from django.db import Error as DatabaseError
from django.db import connections
from psycopg import sql

from organizations.errors import DatabaseKept, OrganizationError
from organizations.models import Server, SpareDatabase
from organizations.naming import role_name, system_database_name
from organizations.postgres.databases import past_pooler
from organizations.postgres.sessions import ServerSession, open_session
from organizations.postgres.trouble import cause_of, is_servers
from organizations.secrets import seal
from organizations.tenancy import Tenant, registry

from . import code, spares
from .making import make_database
from .report import Record, Report

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_WAIT_SECONDS = 600.0


def make(session: ServerSession) -> SpareDatabase:
    """Make one. The lock must be held. Raises what PostgreSQL and Django raise; then only what an
    unready row names is left."""
    code.refuse_incoherent_migrations()
    spare = SpareDatabase.objects.create(
        server=Server.of_master(),
        database_name=system_database_name("spare", master=session.connection.info.dbname),
        role_name=role_name(),
        sealed_password=seal(secrets.token_urlsafe(32)),
        fingerprint=code.current().fingerprint,
    )
    # No organization has a negative id.
    tenant = Tenant(-spare.pk, "spare", spare.key, past_pooler(spare.place))
    report = Report()
    try:
        try:
            make_database(
                session, tenant, owner="a spare database", report=report, record=Record(session)
            )
        finally:
            registry.forget(tenant.alias)  # Also closes its connections.
        if not session.is_superuser:
            grant = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE")
            names = (sql.Identifier(spare.role_name), sql.Identifier(session.user))
            session.execute(grant.format(*names))
        SpareDatabase.objects.filter(pk=spare.pk).update(ready=True)
    except BaseException:
        try:
            spares.drop(session, spare)
        except Exception:
            # Its row stays; the next round or reconcile_orgs drops it.
            logger.exception("spare database not dropped", extra={"spare": spare.pk})
        raise
    spare.ready = True
    seconds = round(report.total_seconds, 3)
    logger.info("spare database made", extra={"spare": spare.pk, "seconds": seconds})
    return spare


def fill(session: ServerSession, *, goes_on: Callable[[], bool] = lambda: True) -> tuple[int, int]:
    """Make missing spares and drop surplus ones. Returns how many of each.

    One process at a time makes or drops one; a second waits for it and looks again. goes_on is
    called before each. One that cannot be dropped does not affect the others; its error is raised
    at the end.
    """
    _ = session.installation  # Raises in a copy of a master, even if there is nothing to make.
    made = dropped = 0
    failures: dict[int, Exception] = {}
    while goes_on() and (spares.missing() or _surplus(failures)):
        session.lock(spares.LOCK, name="the spare databases", timeout_seconds=_WAIT_SECONDS)
        try:
            # Check again: another process may have done it by now.
            if surplus := _surplus(failures):
                try:
                    dropped += spares.drop(session, surplus[0])
                except DatabaseKept as error:
                    failures[surplus[0].pk] = error
                except (psycopg.Error, DatabaseError) as error:
                    if session.connection.closed or _is_for_all(error):
                        raise
                    failures[surplus[0].pk] = error
            elif spares.missing():
                make(session)
                made += 1
        finally:
            if not session.connection.closed:
                session.unlock(spares.LOCK)
    if failures:
        raise next(iter(failures.values()))
    return made, dropped


def _is_for_all(error: BaseException) -> bool:
    """Whether it would be the same for the next one. Nobody works in a spare database, so a lock
    that holds up its drop holds up every drop."""
    return is_servers(error) or isinstance(cause_of(error), psycopg.errors.LockNotAvailable)


def _surplus(failures: Collection[int]) -> list[SpareDatabase]:
    return [spare for spare in spares.surplus() if spare.pk not in failures]


def run(
    *,
    goes_on: Callable[[], bool],
    pause: Callable[[float], None] = time.sleep,
    instead: Callable[[], None] | None = None,
) -> None:
    """Fill up, and again whenever one is taken, until `goes_on` returns False.

    Waits for an unavailable server; failures are retried with growing pauses. instead: called
    instead of filling up.
    """
    failures = 0
    while goes_on():
        try:
            with open_session() as session:
                session.execute(sql.SQL("LISTEN {}").format(sql.Identifier(spares.CHANNEL)))
                while goes_on():
                    spares.note_use()
                    if instead is None:
                        fill(session, goes_on=goes_on)
                    else:
                        instead()
                    failures = 0
                    _wait(session)
        except (OrganizationError, DatabaseError) as error:
            failures += 1
            logger.warning("spare databases not refilled", exc_info=error)
            # Django keeps its cut connection until the end of a request.
            connections.close_all()
            pause(min(POLL_SECONDS * 2 ** (failures - 1), _LONGEST_PAUSE_SECONDS))


def _wait(session: ServerSession) -> None:
    """Wait until one is taken, or a second: a notification can be lost with a session."""
    try:
        for _ in session.connection.notifies(timeout=POLL_SECONDS, stop_after=1):
            pass
    except psycopg.OperationalError:
        session.connection.close()
        raise
