"""Migrates one organization under its lock, and records the result."""

import logging
import re
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from organizations.errors import (
    HistoryInconsistent,
    HistoryUnreadable,
    MigrationHalfDone,
    OrganizationError,
    ServerUnavailable,
    SessionsRemain,
)
from organizations.models import Organization
from organizations.naming import name_key as key_of
from organizations.postgres.fence import fence_by
from organizations.postgres.sessions import ServerSession, open_session
from organizations.provisioning import versions
from organizations.tenancy import Tenant, registry

from . import records
from .engine import Engine, Outcome
from .results import Kind, Result

logger = logging.getLogger(__name__)

_LONGEST_ERROR = 500
_AGAIN = " Tried again: "
# SQLSTATE class of data errors, whose messages quote customers' values.
_DATA = "22"


def migrate_one(organization: Organization, engine: Engine) -> Result:
    """Migrate one organization to the engine's target, and record it. Raises ServerUnavailable."""
    with open_session() as session:
        return take(session, organization, engine, looks_only=False)


def look_at_killed() -> tuple[list[str], list[str]]:
    """Record the real migrations of databases whose rollback was killed.

    Until then, requests that need those migrations are answered 503. Returns the names of the
    recorded and of the failed; passes over those being worked on.
    """
    done, failed = [], []
    for organization in Organization.objects.usable().filter(migration_error=records.UNAPPLYING):
        with open_session() as session:
            result = take(session, organization, Engine(), looks_only=True)
        if result.kind == Kind.CORRECTED:
            done.append(organization.name)
        elif result.kind == Kind.FAILED:
            failed.append(organization.name)
    return done, failed


def take(
    session: ServerSession, organization: Organization, engine: Engine, *, looks_only: bool
) -> Result:
    """Take one turn and record it, under the organization's lock.

    looks_only: only compare with the record. Errors of this organization are in the result; errors
    of the master raise psycopg.Error.
    """
    is_held, found = records.begin(session, organization, looks_only=looks_only)
    if not is_held:
        return Result.of(organization, Kind.BUSY)
    try:
        result = _work(session, organization, found, engine, looks_only=looks_only)
        records.end(session, result, looks_only=looks_only)
    except BaseException:
        if not session.connection.closed:
            session.unlock(key_of(organization.name))
        raise
    if found is not None and result.fingerprint not in (None, found.fingerprint):
        _fence_if_older(session, organization)
    return result


def _fence_if_older(session: ServerSession, organization: Organization) -> None:
    """End the organization's sessions if the recorded schema went back, as --verify can find.

    A failure is only logged: the mark stays, and reconcile_orgs tries again.
    """
    try:
        fence_by(session, organization)
    except (SessionsRemain, psycopg.Error) as error:
        if session.connection.closed:
            raise
        facts = {"organization": organization.pk}
        logger.error("organization not fenced", extra=facts, exc_info=error)


def _work(
    session: ServerSession,
    organization: Organization,
    record: records.Record | None,
    engine: Engine,
    *,
    looks_only: bool,
) -> Result:
    nothing = Result.of(organization, Kind.BUSY)
    if record is None:
        return replace(nothing, kind=Kind.GONE)
    tenant = replace(organization.tenant, place=record.place)
    try:
        if looks_only:
            return _look(nothing, tenant, engine, record)
        return _migrate(session, organization, tenant, engine, record)
    finally:
        # Also closes its connection: one per organization would be too many.
        registry.forget(tenant.alias)


def _migrate(
    session: ServerSession,
    organization: Organization,
    tenant: Tenant,
    engine: Engine,
    record: records.Record,
) -> Result:
    nothing = Result.of(organization, Kind.BUSY)
    began = time.monotonic()
    try:
        left = engine.after_unapplying(tenant, owner=nothing.name)
        if left is not None:
            records.announce(session, organization, left)
        outcome = engine.migrate(tenant, owner=nothing.name)
    except Exception as error:
        failed = _failed(nothing, error, seconds=time.monotonic() - began)
        failed = replace(failed, error=_with_first(failed.error, error, record.error))
        if isinstance(error, HistoryUnreadable):
            return failed
        with suppress(Exception):  # The first of several migrations may have been applied.
            there = engine.state_of(tenant, owner=nothing.name)
            failed = replace(failed, **_schema(there, record.fingerprint))
        return failed
    return replace(
        nothing,
        kind=Kind.MIGRATED if outcome.applied or outcome.unapplied else Kind.IN_STEP,
        **_schema(outcome, record.fingerprint),
        applied=outcome.applied,
        unapplied=outcome.unapplied,
        seconds=outcome.seconds,
    )


def _look(nothing: Result, tenant: Tenant, engine: Engine, record: records.Record) -> Result:
    try:
        there = engine.state_of(tenant, owner=nothing.name)
    except Exception as error:
        return _failed(nothing, error, seconds=0.0)
    schema = _schema(there, record.fingerprint)
    try:
        engine.refuse_inconsistent(there.migrations)
    except HistoryInconsistent as error:
        return replace(_failed(nothing, error, seconds=there.seconds), **schema)
    was_killed = record.error == records.UNAPPLYING
    is_right = schema["fingerprint"] == record.fingerprint and not was_killed
    kind = Kind.CONFIRMED if is_right else Kind.CORRECTED
    return replace(nothing, kind=kind, **schema, seconds=there.seconds)


def _schema(there: Outcome, recorded: str) -> dict[str, Any]:
    """The fingerprint and migrations to record.

    Of migrations newer than this code only the names are known; if the record has a fingerprint by
    code that knew them, it stays.
    """
    names = frozenset(there.migrations)
    is_newer = not names.issubset(versions.code_migrations())
    stays = is_newer and recorded and versions.migrations_of(recorded) == names
    fingerprint = recorded if stays else there.fingerprint
    return {"fingerprint": fingerprint, "migrations": there.migrations}


def _failed(nothing: Result, error: Exception, *, seconds: float) -> Result:
    text = explain(error)
    logger.error(
        "organization not migrated",
        extra={"organization": nothing.organization_id, "error": text},
        exc_info=_for_log(error),
    )
    return replace(
        nothing, kind=Kind.FAILED, error=text, seconds=seconds, was_ended=_was_ended(error)
    )


def _was_ended(error: BaseException | None) -> bool:
    """Whether its session was terminated, as by the fence, or its connection lost.

    Over TLS the server's last words are often lost too: then psycopg has no SQLSTATE. It has none
    for a failed connect either, which is not meant.
    """
    while error is not None:
        if isinstance(error, psycopg.OperationalError) and error.pgconn is None:
            return error.sqlstate in (None, "57P01")
        error = error.__cause__
    return False


def _with_first(text: str, error: Exception, before: str) -> str:
    """For a non-atomic migration, add the first try's error: it says why it is half done."""
    first = before.split(_AGAIN, 1)[0]
    if not isinstance(error, MigrationHalfDone) or not first.startswith(str(error)):
        return text
    return f"{first}{_AGAIN}{text.removeprefix(f'{error} ')}"[:_LONGEST_ERROR]


def explain(error: BaseException) -> str:
    """The error for the master and for display, without host, role, value or secret.

    Of PostgreSQL's errors only the primary message: DETAIL can quote a row.
    """
    return _text_of(error)[:_LONGEST_ERROR]


def _for_log(error: Exception) -> Exception:
    """The error to log: with its stack, but with `explain`'s text and without its cause.

    A DETAIL of PostgreSQL's can quote a row.
    """
    where = error.__traceback__
    if isinstance(error, MigrationHalfDone) and error.__cause__ is not None:
        where = error.__cause__.__traceback__
    kind = type(type(error).__name__, (Exception,), {"__module__": type(error).__module__})
    logged: Exception = kind(explain(error).removeprefix(f"{type(error).__name__}: "))
    return logged.with_traceback(where)


def _text_of(error: BaseException) -> str:
    if isinstance(error, MigrationHalfDone) and error.__cause__ is not None:
        return f"{error} {_text_of(error.__cause__)}"
    if isinstance(error, OrganizationError):
        return f"{error.code}: {error}"
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    if isinstance(cause, psycopg.Error):
        message = cause.diag.message_primary
        if not message or not cause.sqlstate:
            return f"{type(cause).__name__}: {ServerUnavailable()}"
        if cause.sqlstate.startswith(_DATA):
            message = re.sub(r'".*"', '"…"', message, flags=re.DOTALL)
        return f"{type(cause).__name__}: {message}"
    if isinstance(error, OperationalError | InterfaceError):
        return f"{type(error).__name__}: {ServerUnavailable()}"
    first = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {first}"
