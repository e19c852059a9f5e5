"""Tells a server that is gone from one that refused a single thing.

psycopg raises OperationalError for both: a broken connection, and a lock that was not had, a
statement that was cancelled, a database that somebody is connected to.
"""

import psycopg
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from organizations.errors import (
    DatabaseInUse,
    OrganizationError,
    ServerRefused,
    ServerUnavailable,
    TookTooLong,
)

# SQLSTATE by its beginning: connection exceptions; the server ends, or takes none any more.
_AWAY = ("08", "57P01", "57P02", "57P03", "53300")
# Out of disk, memory or files: each of its databases has that in common.
_IN_TROUBLE = (*_AWAY, "53", "58")
_TOO_LONG = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)


def cause_of(error: BaseException) -> BaseException:
    """psycopg's error behind one of Django's; else the error itself."""
    if isinstance(error, DatabaseError) and isinstance(error.__cause__, psycopg.Error):
        return error.__cause__
    return error


def is_away(error: BaseException) -> bool:
    """Whether the connection is gone, or was not to be had; False: the server answered."""
    return _is_of(error, _AWAY)


def is_servers(error: BaseException) -> bool:
    """The same, or the server lacks what all of its databases need."""
    return _is_of(error, _IN_TROUBLE)


def _is_of(error: BaseException, states: tuple[str, ...]) -> bool:
    root = cause_of(error)
    if isinstance(root, psycopg.OperationalError | psycopg.InterfaceError):
        return root.sqlstate is None or root.sqlstate.startswith(states)
    return isinstance(root, OperationalError | InterfaceError)


def told(error: psycopg.Error) -> OrganizationError:
    """The error as one of ours, without the server's own words."""
    if is_servers(error):
        return ServerUnavailable()
    if isinstance(error, _TOO_LONG):
        return TookTooLong()
    if isinstance(error, psycopg.errors.ObjectInUse):
        return DatabaseInUse(type(error).__name__)
    return ServerRefused(type(error).__name__)
