"""Non-atomic migrations: indexes made CONCURRENTLY, and runs that stop half-way."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from pytest_django import Settings

from organizations.errors import MigrationHalfDone
from organizations.migrating import fleet
from organizations.migrating.engine import Engine
from organizations.models import Organization
from tests.organizations.helpers import Superuser, as_role_of, together, wait_for
from tests.plugin import SERVER

from .added import NOT_ATOMIC
from .conftest import Add, Fleet

INDEX = "models.Index(fields=['is_admin'], name='users_admins')"
ADD_INDEX = f"{NOT_ATOMIC}postgres.AddIndexConcurrently('user', {INDEX})"
RUN_SQL = (
    f"{NOT_ATOMIC}migrations.RunSQL('CREATE INDEX CONCURRENTLY IF NOT EXISTS users_admins "
    "ON users (is_admin)', 'DROP INDEX CONCURRENTLY users_admins')"
)
UNIQUE = (
    f"{NOT_ATOMIC}migrations.RunSQL('CREATE UNIQUE INDEX CONCURRENTLY users_admins "
    "ON twice (number)', migrations.RunSQL.noop)"
)
# Its second half meets a lock.
HALVES = (
    f"{NOT_ATOMIC}migrations.RunSQL('CREATE TABLE half ()', 'DROP TABLE half'), "
    "migrations.RunSQL('ALTER TABLE users ADD other_half integer', migrations.RunSQL.noop)"
)
WAITING = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock' "
    "AND query LIKE 'CREATE INDEX CONCURRENTLY%%'"
)
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('users_admins')"


@pytest.fixture
def one(four: Fleet) -> Iterator[Organization]:
    yield four.rows[0]
    ask(four.rows[0], "DROP INDEX IF EXISTS users_admins")
    ask(four.rows[0], "DROP TABLE IF EXISTS half, twice")
    ask(four.rows[0], "DELETE FROM django_migrations WHERE name > '0004'")


def ask(organization: Organization, query: str) -> list[tuple[Any, ...]]:
    with as_role_of(organization) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def migrate(organization: Organization) -> Any:
    return Engine().migrate(organization.tenant, owner=organization.name)


@pytest.mark.parametrize("way", ["migrate_orgs", "migrate"])
def test_an_index_waits_for_a_long_transaction(
    way: str, one: Organization, add: Add, settings: Settings, superuser: Superuser
) -> None:
    settings.MIGRATION_LOCK_TIMEOUT_SECONDS = 0.05
    ask(one, f"ALTER ROLE {one.role_name} SET lock_timeout = '50ms'")  # As a command's own.
    add(index=ADD_INDEX)
    with as_role_of(one) as busy:
        busy.autocommit = False
        busy.execute("LOCK TABLE users IN ROW EXCLUSIVE MODE")

        def run() -> Any:
            if way == "migrate_orgs":
                return migrate(one)
            return call_command("org_command", one.name, "migrate", "accounts", "--verbosity", "0")

        def commit() -> None:
            try:
                wait_for(superuser, WAITING, one.database_name)
                time.sleep(0.2)  # Longer than a lock may be waited for.
            finally:
                busy.rollback()

        try:
            ended, watched = together(run, commit)
        finally:
            ask(one, f"ALTER ROLE {one.role_name} RESET lock_timeout")
    assert watched is None, watched
    assert not isinstance(ended, Exception), ended
    assert ask(one, IS_VALID) == [(True,)]


@pytest.mark.parametrize("way", [ADD_INDEX, RUN_SQL], ids=["AddIndexConcurrently", "RunSQL"])
def test_an_invalid_index_that_was_left_is_made_again(
    way: str, one: Organization, add: Add, superuser: Superuser
) -> None:
    ask(one, "CREATE INDEX users_admins ON users (email)")
    parameters = SERVER.superuser_parameters() | {"dbname": one.database_name}
    with psycopg.connect(**parameters, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'users_admins'::regclass"
        )
    add(index=way)
    migrate(one)
    assert ask(one, IS_VALID) == [(True,)]
    (definition,) = ask(one, "SELECT pg_get_indexdef('users_admins'::regclass)")
    assert "(is_admin)" in definition[0]


def test_an_index_that_cannot_be_made_is_removed(one: Organization, four: Fleet, add: Add) -> None:
    ask(one, "CREATE TABLE twice AS SELECT 1 AS number FROM generate_series(1, 2)")
    add(unique=UNIQUE)
    for _ in range(2):  # The second time it is the same, and no index that exists already.
        with pytest.raises(
            MigrationHalfDone, match=r"accounts\.0004_unique is not atomic"
        ) as caught:
            migrate(one)
        assert isinstance(caught.value.__cause__.__cause__, psycopg.errors.UniqueViolation)  # type: ignore[union-attr]
        assert ask(one, IS_VALID) == []


def test_an_index_that_is_whole_is_not_touched(one: Organization, add: Add) -> None:
    ask(one, "CREATE INDEX users_admins ON users (email)")
    add(index=ADD_INDEX)
    with pytest.raises(MigrationHalfDone):
        migrate(one)
    assert ask(one, IS_VALID) == [(True,)]


def test_a_non_atomic_migration_is_tried_once_and_keeps_its_first_error(
    one: Organization, four: Fleet, add: Add, settings: Settings
) -> None:
    settings.MIGRATION_LOCK_TIMEOUT_SECONDS = 0.05
    add(halves=HALVES)
    only = four.query.filter(pk=one.pk)
    with as_role_of(one) as busy:
        busy.autocommit = False
        busy.execute("LOCK TABLE users")
        report = fleet.run(only, fleet.Options())
        busy.rollback()
    first = four.rows[0].migration_error
    assert report.failed[0].error == first
    assert first.startswith(
        "accounts.0004_halves is not atomic: what it did before this error remains. "
        "LockNotAvailable: canceling statement due to lock timeout"
    )
    (failed,) = fleet.run(only, fleet.Options()).failed
    assert failed.error == f'{first} Tried again: DuplicateTable: relation "half" already exists'
    assert four.rows[0].migration_error == failed.error
    (failed,) = fleet.run(only, fleet.Options()).failed
    assert four.rows[0].migration_error == failed.error, "and so on, without growing"
