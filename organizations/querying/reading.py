"""Runs one statement in one organization's database: read-only, and bounded by the client."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from django.conf import settings
from psycopg import capabilities, errors, generators, sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from organizations.errors import QueryTooLarge, QueryTooSlow, QueryWithoutRows
from organizations.migrating.turn import explain
from organizations.models import Organization
from organizations.postgres.databases import connect, past_pooler, settings_for
from organizations.tenancy import guard

# The transaction can no longer be made one that writes: set_config() is its first query. What the
# organization may have set for its role must not change how the statement and its values read.
_BEGIN = sql.SQL(
    "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE; "
    "SELECT pg_catalog.set_config(name, value, true) FROM (VALUES "
    "('statement_timeout', {timeout}), ('lock_timeout', {timeout}), "
    "('standard_conforming_strings', 'on'), ('bytea_output', 'hex'), "
    "('datestyle', 'ISO'), ('intervalstyle', 'postgres')) AS s(name, value)"
)
_ROWS_AT_A_TIME = 100
# What a value takes in memory besides its text.
_VALUE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Query:
    """A statement that returns rows, and the limits for each organization."""

    text: str
    row_limit: int
    timeout_seconds: int


@dataclass(frozen=True, slots=True)
class Column:
    """type_oid: as in pg_type."""

    name: str
    type_oid: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One organization's rows as PostgreSQL writes the values, or its error.

    has_more: whether there are more rows than the limit.
    """

    organization: Organization
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()
    has_more: bool = False
    error: str = ""


def read(organization: Organization, query: Query, opened: set[guard.Connection]) -> Answer:
    """The organization's answer; whatever fails is in it.

    The connection is in `opened` while it is open, for whoever wants to cancel the statement.
    """
    connection = None
    try:
        place = past_pooler(organization.place)
        connection = connect(settings_for(place, owner=organization.name))
        opened.add(connection)
        # The server's own timeout comes first.
        connection.lend(query.timeout_seconds + guard.GRACE_SECONDS)
        with guard.time_limit(None):
            return _ask(connection, organization, query)
    except guard.AnswerTooLarge:
        return Answer(organization, error=explain(QueryTooLarge(settings.ORG_MAX_ANSWER_BYTES)))
    except errors.QueryCanceled:
        return Answer(organization, error=explain(QueryTooSlow(query.timeout_seconds)))
    except Exception as error:
        return Answer(organization, error=explain(error))
    finally:
        if connection is not None:
            connection.close()  # Rolls back; nothing was written, and no NOTIFY is sent.
            opened.discard(connection)


def _ask(connection: guard.Connection, organization: Organization, query: Query) -> Answer:
    timeout = sql.Literal(f"{query.timeout_seconds * 1000}ms")
    connection.execute(_BEGIN.format(timeout=timeout))
    columns = _prepare(connection, query.text)
    rows: list[tuple[str | None, ...]] = []
    size = 0
    for result in _results(connection, at_a_time=min(_ROWS_AT_A_TIME, query.row_limit + 1)):
        for row in range(result.ntuples):
            if len(rows) == query.row_limit:
                _stop(connection)
                return Answer(organization, columns, tuple(rows), has_more=True)
            values = [result.get_value(row, column) for column in range(result.nfields)]
            size += sum(_VALUE_BYTES + len(value or b"") for value in values)
            if size > settings.ORG_MAX_ANSWER_BYTES:
                _stop(connection)
                raise QueryTooLarge(settings.ORG_MAX_ANSWER_BYTES)
            rows.append(tuple(None if value is None else _text(value) for value in values))
    return Answer(organization, columns, tuple(rows))


def _prepare(connection: guard.Connection, text: str) -> tuple[Column, ...]:
    """By the extended protocol, which takes one statement. Raises QueryWithoutRows.

    What returns no rows is never run: COMMIT, PREPARE TRANSACTION, COPY, NOTIFY, SET, DO.
    """
    pgconn = connection.pgconn
    pgconn.send_prepare(b"", text.encode())
    _checked(connection.wait(generators.execute(pgconn)))
    pgconn.send_describe_prepared(b"")
    (described,) = _checked(connection.wait(generators.execute(pgconn)))
    if not described.nfields:
        raise QueryWithoutRows
    return tuple(
        Column(_text(described.fname(index) or b""), described.ftype(index))
        for index in range(described.nfields)
    )


def _results(connection: guard.Connection, *, at_a_time: int) -> Iterator[PGresult]:
    """The prepared statement's rows, some at a time: libpq holds no more."""
    pgconn = connection.pgconn
    pgconn.send_query_prepared(b"", None)
    if capabilities.has_stream_chunked():  # From libpq 17 on.
        pgconn.set_chunked_rows_mode(at_a_time)
    else:
        pgconn.set_single_row_mode()
    connection.wait(generators.send(pgconn))
    while (result := connection.wait(generators.fetch(pgconn))) is not None:
        yield from _checked([result])


def _checked(results: list[PGresult]) -> list[PGresult]:
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result, "utf-8")
    return results


def _stop(connection: guard.Connection) -> None:
    """End a statement whose other rows are not wanted. If it does not obey, it is terminated."""
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=guard.CANCEL_SECONDS)
    with suppress(psycopg.Error):
        connection.lend(guard.CANCEL_SECONDS)
        while connection.wait(generators.fetch(connection.pgconn)) is not None:
            pass


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
