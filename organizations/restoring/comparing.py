"""Says which users' passwords, rights, addresses or existence go back with a restore."""

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
_USERS = (
    "SELECT id, email, hashed_password, is_admin, is_active FROM public.users WHERE id > %s "
    "ORDER BY id LIMIT %s"
)
# Id, address, hash of the password, is_admin, is_active.
_User = tuple[int, str, str, bool, bool]


@dataclass(frozen=True, slots=True)
class Goes:
    """What goes back for one user: some of password, rights, address; or `gone`, for one who is not
    in the backup; or `returns`, for one who was removed since. email: of now, or a returning one's.
    """

    user_id: int
    email: str
    what: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """unknown: why the users of now could not be read; empty if they could. last_id: the highest id
    among them."""

    users: tuple[Goes, ...]
    unknown: str = ""
    last_id: int = 0

    def numbers(self) -> dict[str, int]:
        """How many users, by what goes back. For the master, which knows nobody."""
        return dict(Counter(what for user in self.users for what in user.what))


def compare(
    now: dict[str, Any] | None, then: dict[str, Any], *, name: str, until: float
) -> Changes:
    """Compare the users of the database that serves with those of the restored one.

    now, then: as transfer.parameters gives them; now: None if there is no such database. name: the
    organization's, for errors. Raises RestoreFailed if the restored one's cannot be read; those of
    now may be what the restore is for.
    """
    if now is None:
        return Changes((), "there is no database")
    with _connected(then, until) as restored:
        before = _certainly(_users(restored), name)
        try:
            with _connected(now, until) as serving:
                return _compared(_users(serving), before)
        except _UNREADABLE as error:
            logger.warning("users of now not read", exc_info=error)
            return Changes((), f"its users cannot be read ({type(error).__name__})")


_UNREADABLE = (psycopg.Error, ValueError)


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
    """By id. What its owner has made of the table may be anything."""
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
    last_id = 0
    serving, restored = next(now, None), next(then, None)
    while serving is not None or restored is not None:
        last_id = serving[0] if serving is not None else last_id
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
    return Changes(tuple(found), last_id=last_id)


def _what(now: _User, then: _User) -> tuple[str, ...]:
    differs = {"address": now[1] != then[1], "password": now[2] != then[2]}
    differs["rights"] = now[3:] != then[3:]
    return tuple(name for name, yes in differs.items() if yes)
