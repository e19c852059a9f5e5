"""The limit on a result's bytes is exact, whichever way it is read."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.db import Error as DatabaseError
from django.db.models import Value
from django.db.models.functions import Repeat
from pytest_django import Settings

from accounts.models import User
from organizations import tenancy
from organizations.postgres.databases import connect, settings_for
from organizations.tenancy import guard, pool
from organizations.tenancy.answers import AnswerTooLarge
from tests.conftest import Company, Superuser

from .hostile import until_none_is_active

pytestmark = pytest.mark.usefixtures("fresh_registry")

MOST = 500_000
# The one value of a row: the row takes 7 bytes, and the value 4.
FITS = MOST - 11
SELECT = "SELECT repeat('x', %s)"


@pytest.fixture(autouse=True)
def limited(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a megabyte; and nobody counts while bytes arrive, which does not see all of them."""
    settings.ORG_MAX_ANSWER_BYTES = MOST
    monkeypatch.setattr(guard, "_FIRST_SECONDS", 60.0)


def by_execute(cursor: Any, size: int) -> object:
    cursor.execute(SELECT, [size])
    return cursor.fetchone()[0]


def by_many_rows(cursor: Any, size: int) -> object:
    cursor.execute("SELECT repeat('x', 9) FROM generate_series(1, %s)", [-(-size // 20)])
    return "".join(each for (each,) in cursor.fetchall())


def by_several_statements(cursor: Any, size: int) -> object:
    cursor.execute(f"SELECT repeat('x', {size // 2 - 11}); SELECT repeat('x', {size // 2})")
    found = cursor.fetchone()[0]
    cursor.nextset()
    return found + cursor.fetchone()[0]


def by_executemany(cursor: Any, size: int) -> object:
    with cursor.connection.cursor() as psycopgs:
        psycopgs.executemany(SELECT, [[1], [size]], returning=True)
        psycopgs.nextset()
        return psycopgs.fetchone()[0]


def by_pipeline(cursor: Any, size: int) -> object:
    with cursor.connection.pipeline():
        cursor.execute("SELECT 1")
        cursor.execute(SELECT, [size])
        return cursor.fetchone()[0]


def by_stream(cursor: Any, size: int) -> object:
    return [row for (row,) in cursor.stream(f"SELECT 'a' UNION ALL {SELECT}", [size])][1]


def by_copy(cursor: Any, size: int) -> object:
    with cursor.copy(f"COPY ({SELECT}) TO STDOUT", [size]) as copied:
        return b"".join(copied).decode().strip()


def by_rows_of_copy(cursor: Any, size: int) -> object:
    with cursor.copy(f"COPY ({SELECT}) TO STDOUT", [size]) as copied:
        return [row for (row,) in copied.rows()][0]


def by_server_cursor(cursor: Any, size: int) -> object:
    with tenancy.atomic(), tenancy.connection().chunked_cursor() as chunks:
        chunks.execute(SELECT, [size])
        return chunks.fetchmany(100)[0][0]


def by_psycopgs_server_cursor(cursor: Any, size: int) -> object:
    with tenancy.atomic(), cursor.connection.cursor("named") as named:
        named.execute(SELECT, [size])
        return named.fetchone()[0]


WAYS = [
    *(by_execute, by_many_rows, by_several_statements, by_executemany, by_pipeline, by_stream),
    *(by_copy, by_rows_of_copy, by_server_cursor, by_psycopgs_server_cursor),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_result_above_the_limit_never_reaches_the_caller(
    way: Callable[[Any, int], object], alpha: Company, superuser: Superuser
) -> None:
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        found = way(cursor, FITS)
        assert set(str(found)) == {"x"}
        # Read at once: the whole of it, before anything can be counted.
        for size in (MOST + 1, 5_000_000):
            with (
                pytest.raises((DatabaseError, psycopg.Error), match="ORG_MAX_ANSWER_BYTES"),
                tenancy.connection().cursor() as again,
            ):
                way(again, size)
            with suppress(DatabaseError):
                tenancy.connection().close()
    until_none_is_active(superuser, alpha)
    assert pool.shared.open - pool.shared.idle == 0


def test_a_byte_more_than_the_limit_is_refused(alpha: Company) -> None:
    """Also without the backend, and in async code."""
    place = settings_for(alpha.organization.place, owner=alpha.name)
    with connect(place) as connection:
        assert connection.execute(SELECT, [FITS]).fetchone() == ("x" * FITS,)
        with pytest.raises(AnswerTooLarge):
            connection.execute(SELECT, [FITS + 1])
        assert connection.closed
    users = User.objects.annotate(large=Repeat(Value("x"), MOST)).order_by("id")

    async def read() -> list[User]:
        with tenancy.override(alpha.tenant):
            return [user async for user in users[:1]]

    with pytest.raises(DatabaseError, match="ORG_MAX_ANSWER_BYTES"):
        asyncio.run(read())
