"""The engine makes the same schema as Django's executor, migration by migration, both ways."""

import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.test import override_settings
from psycopg import sql
from pytest_django import DjangoDbBlocker

from organizations import lifecycle, tenancy
from organizations.migrating import by_django
from organizations.migrating.engine import Engine, Target
from organizations.migrating.session import Session
from organizations.models import Organization
from tests.conftest import PASSWORD
from tests.plugin import SERVER

from . import synthetic
from .synthetic_case import Case

# Everything that the schema is made of, each thing as one text.
_CATALOG = """
SELECT format('column %s.%s %s %s', c.oid::regclass, a.attnum, a.attname, concat_ws(' ',
    format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
    pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation,
    col_description(c.oid, a.attnum)))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'S')
    AND a.attnum > 0 AND NOT a.attisdropped
UNION SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
WHERE c.relnamespace = 'public'::regnamespace
UNION SELECT format('sequence %s %s', seqrelid::regclass, seqtypid::regtype) FROM pg_sequence
UNION SELECT format('table %s %s', oid::regclass, obj_description(oid, 'pg_class'))
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
"""


Step = tuple[str, bool]  # a migration's name, and whether it was taken back


class Watched:
    """An organization's database, and what is in it after each migration."""

    def __init__(self, organization: Organization) -> None:
        self.tenant = organization.tenant
        self.name = organization.database_name
        self.seen: dict[Step, set[str]] = {}
        self.compiled: dict[Step, bool] = {}
        parameters = SERVER.superuser_parameters() | {"dbname": self.name}
        self._connection = psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]
        self._rows = self._recorded()
        # Django tells its connections the time zone; casts go another way without.
        zone = sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Tokyo'")
        self.execute(zone.format(sql.Identifier(self.name)).as_string())

    def execute(self, query: str) -> list[tuple[Any, ...]]:
        """Run it as a superuser; its rows."""
        cursor = self._connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []

    def look(self, *, compiled: bool) -> None:
        """Record the state after the migration whose row came or went."""
        before, self._rows = self._rows, self._recorded()
        for name in before ^ self._rows:
            step = (name, name in before)
            there = {str(text) for (text,) in self.execute(_CATALOG)}
            self.seen[step] = there | {f"recorded {each}" for each in self._rows}
            self.compiled[step] = compiled

    def dump(self) -> list[str]:
        """pg_dump's output with rows, without the owner's name."""
        parameters = SERVER.superuser_parameters()
        said = subprocess.run(
            [
                SERVER.bin_dir / "pg_dump",
                f"--dbname={self.name}",
                f"--host={parameters['host']}",
                f"--username={parameters['user']}",
                "--no-owner",
                "--no-privileges",
                "--inserts",
                "--exclude-table-data=django_migrations",
            ],
            env={"PGPASSWORD": str(parameters["password"])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        # Each dump has a key of its own (\\restrict).
        return [line for line in said.splitlines() if "restrict " not in line]

    def close(self) -> None:
        self._connection.close()

    def _recorded(self) -> set[str]:
        if not self.execute("SELECT 1 WHERE to_regclass('django_migrations') IS NOT NULL"):
            return set()
        rows = self.execute("SELECT name FROM django_migrations WHERE app = 'accounts'")
        names = [str(name) for (name,) in rows]
        assert len(names) == len(set(names)), "recorded twice"
        return set(names)


@dataclass
class Pair:
    """Two organizations: one migrated by Django, one by the engine. dumps: at each target."""

    by_django: Watched
    by_engine: Watched
    dumps: dict[str, list[list[str]]] = field(default_factory=dict)

    def go(self, name: str) -> None:
        """Migrate both to this migration of the tenant app."""
        with tenancy.override(self.by_django.tenant):
            connection = connections[self.by_django.tenant.alias]
            executor = MigrationExecutor(connection, self._progress)  # type: ignore[arg-type]
            executor.migrate([("accounts", None if name == "zero" else name)])
        Engine(Target("accounts", name)).migrate(self.by_engine.tenant, owner="equality")
        self.dumps.setdefault(name, []).extend([self.by_django.dump(), self.by_engine.dump()])

    def _progress(self, action: str, migration: Any = None, fake: bool = False) -> None:
        if action.endswith("apply_success"):
            self.by_django.look(compiled=False)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    """The synthetic migrations are the tenant app's, in this module."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("synthetic")
        patch.syspath_prepend(str(folder))
        package = f"synthetic_{secrets.token_hex(4)}"
        found = synthetic.write(folder / package)
        with override_settings(MIGRATION_MODULES={"accounts": package}):
            yield found


@pytest.fixture(scope="module")
def made(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[list[Organization]]:
    """Two organizations, before there are synthetic migrations."""
    with django_db_blocker.unblock():
        made = [
            lifecycle.create_organization(
                name=f"Equal {number} {secrets.token_hex(3)}",
                email="admin@equal.example",
                password=PASSWORD,
            ).organization
            for number in range(2)
        ]
        yield made
        for organization in made:
            lifecycle.delete_organization(organization)


@pytest.fixture(scope="module")
def pair(
    made: list[Organization], django_db_blocker: DjangoDbBlocker, cases: dict[str, Case]
) -> Iterator[Pair]:
    """Both have been to the end of the migrations, and back to none."""
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        pair = Pair(Watched(made[0]), Watched(made[1]))
        watch(pair.by_engine, patch)
        try:
            pair.go("zero")
            for watched in (pair.by_django, pair.by_engine):
                watched.execute("DROP TABLE django_migrations")
            for name in (list(cases)[-1], "zero"):
                pair.go(name)
            yield pair
        finally:
            for watched in (pair.by_django, pair.by_engine):
                watched.close()


def watch(watched: Watched, patch: pytest.MonkeyPatch) -> None:
    """Look after every step of the engine."""
    send, run = Session.send, by_django.run

    def looking(act: Callable[..., None], *, compiled: bool) -> Callable[..., None]:
        def do(*arguments: Any) -> None:
            act(*arguments)
            watched.look(compiled=compiled)

        return do

    patch.setattr(Session, "send", looking(send, compiled=True))
    patch.setattr(by_django, "run", looking(run, compiled=False))


def test_each_migration_leaves_what_django_leaves(pair: Pair, cases: dict[str, Case]) -> None:
    steps = set(pair.by_django.seen)
    assert set(pair.by_engine.seen) == steps
    assert len(steps) == 2 * (len(cases) + 3)
    for step in steps:
        assert pair.by_engine.seen[step] == pair.by_django.seen[step], step


def test_pg_dump_says_the_same_of_both(pair: Pair, cases: dict[str, Case]) -> None:
    assert len(pair.dumps) == 2
    for name, dumps in pair.dumps.items():
        for expected, dump in zip(dumps[::2], dumps[1::2], strict=True):
            assert dump == expected, name
    assert any("100%" in line for line in pair.dumps[list(cases)[-1]][0]), "an empty dump"


def test_what_is_pure_schema_is_compiled_and_nothing_else(
    pair: Pair, cases: dict[str, Case]
) -> None:
    expected = {(name, False): case.forwards for name, case in cases.items()}
    expected |= {(name, True): case.backwards for name, case in cases.items()}
    real = {step: True for step in pair.by_engine.compiled if step[0] not in cases}
    assert len(real) == 6, "those of the project itself, both ways"
    assert pair.by_engine.compiled == expected | real
