"""Lists users whose password, rights, address or existence a restore would change."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg

from organizations.errors import RestoreFailed
from organizations.tenancy import guard

logger = logging.getLogger(__name__)

_PAGE = 2_000
_MOST_USERS = 1_000_000
# The owner may have changed the table's values to any type and length.
_USERS = (
    "SELECT id::bigint, pg_catalog.left(email::text, 254), "
    "pg_catalog.left(hashed_password::text, 255), is_admin::boolean, is_active::boolean "
    "FROM public.users WHERE id > %s ORDER BY id LIMIT %s"
)
_LAST_ID = """
SELECT greatest(max(id)::bigint, pg_catalog.pg_sequence_last_value(
    pg_catalog.pg_get_serial_sequence('public.users', 'id')::regclass)) FROM public.users
"""
# Id, address, hash of the password, is_admin, is_active.
_User = tuple[int, str, str, bool, bool]


@dataclass(frozen=True, slots=True)
class Goes:
    """What changes for one user: some of password, rights, address; or `gone`, for one who is not
    in the backup; or `returns`, for one who was removed since. email: the current one, or a
    returning user's.
    """

    user_id: int
    email: str
    what: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """unknown: why the current users could not be read; empty if they could."""

    users: tuple[Goes, ...]
    unknown: str = ""

    def numbers(self) -> dict[str, int]:
        """How many users change, by what changes. For the master, which stores no users."""
        return dict(Counter(what for user in self.users for what in user.what))


def compare(
    now: dict[str, Any] | None, then: dict[str, Any], *, name: str, until: float
) -> Changes:
    """Compare the users of the database that serves with those of the restored one.

    now, then: as transfer.parameters gives them; now: None if there is no such database. name: the
    organization's, for errors. Raises RestoreFailed if the restored users cannot be read;
    unreadable current ones may be what the restore is for.
    """
    if now is None:
        return Changes((), "there is no database")
    with _connected(then, until) as restored:
        before = _certainly(_users(restored), name)
        try:
            with _connected(now, until) as serving:
                return _compared(_users(serving), before)
        except _UNREADABLE as error:
            logger.warning("current users not read", exc_info=error)
            return Changes((), f"its users cannot be read ({type(error).__name__})")


_UNREADABLE = (psycopg.Error, ValueError)


def last_id(now: dict[str, Any] | None, *, until: float) -> int | None:
    """The highest id that a user of the serving database has, or had; None: unknown."""
    if now is None:
        return None
    try:
        with _connected(now, until) as serving:
            found = serving.execute(_LAST_ID.encode()).fetchone()
            return None if found is None else found[0]
    except _UNREADABLE as error:
        logger.warning("current users not counted", exc_info=error)
        return None


def _certainly(users: Iterator[_User], name: str) -> Iterator[_User]:
    try:
        yield from users
    except _UNREADABLE as error:
        why = f"the backup's users cannot be read ({type(error).__name__})."
        raise RestoreFailed(name, why) from error


def _connected(where: dict[str, Any], until: float) -> guard.Connection:
    connection = guard.Connection.connect(**where, autocommit=True, prepare_threshold=None)
    connection.lend(max(0.001, until - monotonic()))
    return connection


def _users(connection: guard.Connection) -> Iterator[_User]:
    """By id. The owner may have turned the table into anything."""
    last = count = 0
    while True:
        rows = connection.execute(_USERS.encode(), (last, _PAGE)).fetchall()
        for row in rows:
            if not isinstance(row[0], int) or row[0] <= last or count > _MOST_USERS:
                raise ValueError("The table users is not what it should be.")
            last, count = row[0], count + 1
            yield row
        if len(rows) < _PAGE:
            return


def _compared(now: Iterator[_User], then: Iterator[_User]) -> Changes:
    found: list[Goes] = []
    serving, restored = next(now, None), next(then, None)
    while serving is not None or restored is not None:
        if restored is None or (serving is not None and serving[0] < restored[0]):
            assert serving is not None  # noqa: S101 - one of them is there
            found.append(Goes(serving[0], serving[1], ("gone",)))
            serving = next(now, None)
        elif serving is None or restored[0] < serving[0]:
            found.append(Goes(restored[0], restored[1], ("returns",)))
            restored = next(then, None)
        else:
            if what := _what(serving, restored):
                found.append(Goes(serving[0], serving[1], what))
            serving, restored = next(now, None), next(then, None)
    return Changes(tuple(found))


def _what(now: _User, then: _User) -> tuple[str, ...]:
    differs = {"address": now[1] != then[1], "password": now[2] != then[2]}
    differs["rights"] = now[3:] != then[3:]
    return tuple(name for name, yes in differs.items() if yes)
