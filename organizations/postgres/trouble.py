"""Tells whether the server is unavailable, or only refused one statement.

psycopg raises OperationalError for both: a broken connection, and a lock that timed out, a
cancelled statement, a database in use.
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

# SQLSTATE prefixes: connection exceptions; the server is shutting down or refuses connections; it
# is out of connections, disk, memory or files, which all its databases share.
_IN_TROUBLE = ("08", "57P01", "57P02", "57P03", "53", "58")
_TOO_LONG = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)


def cause_of(error: BaseException) -> BaseException:
    """psycopg's error that caused one of Django's; else the error itself."""
    if isinstance(error, DatabaseError) and isinstance(error.__cause__, psycopg.Error):
        return error.__cause__
    return error


def is_servers(error: BaseException) -> bool:
    """Whether the connection failed, or the server lacks what all its databases need; False: it
    refused only this statement."""
    root = cause_of(error)
    if isinstance(root, psycopg.OperationalError | psycopg.InterfaceError):
        return root.sqlstate is None or root.sqlstate.startswith(_IN_TROUBLE)
    return isinstance(root, OperationalError | InterfaceError)


def told(error: psycopg.Error) -> OrganizationError:
    """The error as one of ours, without the server's text."""
    if is_servers(error):
        return ServerUnavailable()
    if isinstance(error, _TOO_LONG):
        return TookTooLong()
    if isinstance(error, psycopg.errors.ObjectInUse):
        return DatabaseInUse(type(error).__name__)
    return ServerRefused(type(error).__name__)
