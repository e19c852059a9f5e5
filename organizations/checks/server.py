"""System checks of the PostgreSQL server, its roles and connection limits."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg
from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.db import Error as DatabaseError

from organizations.models import Organization
from organizations.postgres import installation
from organizations.postgres.preflight import Unusable, usable_connection
from organizations.provisioning import ceiling
from organizations.recovery import credentials

# The master's, and a direct session for provisioning.
CONNECTIONS_PER_THREAD = 2
# A worker's, besides its jobs': Procrastinate's three (background/worker.py), and two of the thread
# that finishes interrupted work: the master's, and a direct session.
CONNECTIONS_OF_WORKER = 5
# Its watch over the spare databases: the master's, and a direct session.
CONNECTIONS_FOR_SPARES = 2


# An organization's role needs these besides web threads and jobs: for a migration, a command, and
# an operator who looks.
CONNECTIONS_BESIDE = 3


def own_connections() -> int:
    """How many connections the application's own role can open, over all hosts."""
    own: int = settings.WEB_HOSTS * settings.WEB_CONCURRENCY
    own *= settings.WEB_THREADS * CONNECTIONS_PER_THREAD
    own += CONNECTIONS_OF_WORKER + settings.WORKER_CONCURRENCY * CONNECTIONS_PER_THREAD
    return own + CONNECTIONS_FOR_SPARES * bool(settings.ORG_SPARE_DATABASES)


def _processes() -> str:
    hosts = f" on each of {settings.WEB_HOSTS} hosts" if settings.WEB_HOSTS > 1 else ""
    return f"{settings.WEB_CONCURRENCY} processes of {settings.WEB_THREADS} threads{hosts}"


def _budget(connection: psycopg.Connection[Any]) -> Iterator[checks.CheckMessage]:
    """Compare what the threads can open with each limit: the server's, the role's, the master's.

    No limit of a role or a database applies to a superuser (PostgreSQL, CREATE ROLE).
    """
    row = connection.execute(
        "SELECT current_setting('max_connections')::int - "
        "current_setting('superuser_reserved_connections')::int - "
        "CASE WHEN pg_has_role('pg_use_reserved_connections', 'USAGE') THEN 0 "
        "ELSE current_setting('reserved_connections')::int END, "
        "nullif(rolconnlimit, -1), nullif(datconnlimit, -1), rolsuper "
        "FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()"
    ).fetchone()
    server, role, database, superuser = row if row else (0, None, None, False)
    own = own_connections()
    # Plus connections of the organizations' roles, to their own databases.
    web: int = settings.WEB_HOSTS * settings.WEB_CONCURRENCY
    everything = own + web * settings.ORG_MAX_CONNECTIONS + settings.WORKER_CONCURRENCY
    threads = "WEB_CONCURRENCY or WEB_THREADS"
    for needed, available, whose, lowering, remedy in (
        (
            everything,
            server,
            "the server allows",
            "WEB_CONCURRENCY or ORG_MAX_CONNECTIONS",
            "raise the server's max_connections",
        ),
        (
            own,
            role,
            "the application's role may have",
            threads,
            "raise the role's CONNECTION LIMIT",
        ),
        (
            own,
            database,
            "the master database takes",
            threads,
            "raise the database's CONNECTION LIMIT",
        ),
    ):
        if available is None or needed <= available or (superuser and whose != "the server allows"):
            continue
        yield checks.Warning(
            f"{_processes()} and a worker can open {needed} connections, and {whose} {available}.",
            hint=f"Lower {lowering}, or {remedy}.",
            id="organizations.W004",
        )
    yield from _limits_of_roles(connection)


def _limits_of_roles(connection: psycopg.Connection[Any]) -> Iterator[checks.CheckMessage]:
    """An organization's role must be allowed as many connections as it can need, and no more."""
    share = min(settings.ORG_MAX_THREADS, settings.ORG_MAX_CONNECTIONS)
    needed = settings.WEB_HOSTS * settings.WEB_CONCURRENCY * share
    needed += settings.WORKER_CONCURRENCY + CONNECTIONS_BESIDE
    limit: int = settings.ORG_CONNECTION_LIMIT
    if limit < needed:
        yield checks.Warning(
            f"{_processes()} and a worker can open {needed} connections to one organization's "
            f"database, but ORG_CONNECTION_LIMIT is {limit}.",
            hint=f"Set it to at least {needed}, and run `manage.py check_orgs --fix`.",
            id="organizations.W004",
        )
    if connection.execute("SELECT to_regclass('organizations')").fetchone() == (None,):
        return
    row = connection.execute(
        "SELECT count(*) FROM organizations AS o JOIN pg_roles AS r "
        "ON r.rolname = o.role_name::name "
        "WHERE o.status = ANY(%s) AND r.rolconnlimit <> %s",
        ([str(status) for status in Organization.Status.usable()], limit),
    ).fetchone()
    if row and row[0]:
        yield checks.Warning(
            f"The roles of {row[0]} organizations have a connection limit other than "
            f"ORG_CONNECTION_LIMIT = {limit}.",
            hint="Run `manage.py check_orgs --fix`.",
            id="organizations.W004",
        )


@checks.register(checks.Tags.database)
def check_server(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """Query the server about the application's role and PUBLIC's rights.

    Runs with `check --database default`, like all checks that query a database.
    """
    if not databases or "default" not in databases:
        return
    try:
        with usable_connection() as connection:
            yield from _role(connection)
            yield from _budget(connection)
            yield from _open_to_all(connection)
            yield from _ceiling()
            yield from _credentials()
            yield from _prepared_transactions(connection)
            yield from _standing(connection)
    except Unusable as error:
        yield checks.Error(str(error), id="organizations.E001")


def _role(connection: psycopg.Connection[Any]) -> Iterator[checks.CheckMessage]:
    if connection.info.parameter_status("is_superuser") == "on":
        yield checks.Warning(
            f"The application connects as the superuser {connection.info.user}.",
            hint="It works, but the server cannot restrict it. Start new installations with a role "
            "that has only CREATEDB and CREATEROLE; `manage.py server_sql` prints the SQL.",
            id="organizations.W001",
        )


def _ceiling() -> Iterator[checks.CheckMessage]:
    try:
        number = ceiling.count()
    except DatabaseError:
        return  # Not migrated yet.
    if ceiling.is_near(number):
        yield checks.Warning(
            f"There are {number} organizations, and ORG_MAX_ORGANIZATIONS is "
            f"{settings.ORG_MAX_ORGANIZATIONS}: further sign-ups will be answered 503.",
            hint="Check the free disk space and raise it, or delete unused organizations.",
            id="organizations.W007",
        )


def _credentials() -> Iterator[checks.CheckMessage]:
    try:
        sample = credentials.sample()
    except DatabaseError:
        return  # Not migrated yet.
    if unreadable := sample.unreadable:
        yield checks.Error(
            f"CREDENTIAL_KEYS cannot decrypt the stored password of {', '.join(unreadable)}"
            f"{'' if sample.any_readable else ', nor any other that was tried'}.",
            hint="Add the key that encrypted them. If it is lost: manage.py reset_credentials.",
            id="organizations.E008",
        )


def _open_to_all(connection: psycopg.Connection[Any]) -> Iterator[checks.CheckMessage]:
    """Never trust a REVOKE that reported success: as another role it changes nothing."""
    for (database,) in connection.execute(
        "SELECT datname FROM pg_database WHERE datallowconn AND EXISTS (SELECT FROM "
        "aclexplode(coalesce(datacl, acldefault('d', datdba))) AS acl WHERE acl.grantee = 0 "
        "AND acl.privilege_type = 'CONNECT') ORDER BY datname"
    ):
        yield checks.Warning(
            f"Every role may connect to the database {database}, including the organizations'.",
            hint="Run what `manage.py server_sql` prints as a superuser.",
            id="organizations.W003",
        )


def _prepared_transactions(connection: psycopg.Connection[Any]) -> Iterator[checks.CheckMessage]:
    """A prepared transaction outlives its session, and DROP DATABASE fails while there is one."""
    row = connection.execute("SELECT current_setting('max_prepared_transactions')::int").fetchone()
    if row and row[0]:
        yield checks.Warning(
            f"max_prepared_transactions is {row[0]}: with a prepared transaction an organization "
            "can block the drop of its database.",
            hint="Set it to 0, PostgreSQL's default, and restart the server.",
            id="organizations.W009",
        )


def _standing(connection: psycopg.Connection[Any]) -> Iterator[checks.CheckMessage]:
    """A copy of a master must be claimed first."""
    if connection.execute("SELECT to_regclass('public.installation')").fetchone() == (None,):
        return  # Before the first migration.
    if installation.of_row(connection.execute(installation.STATEMENT.encode()).fetchone()).is_copy:
        yield checks.Error(
            "This master database is a copy: its server or database is not the recorded one. It "
            "drops, changes and mails nothing.",
            hint="See manage.py claim_installation --help.",
            id="organizations.E002",
        )
