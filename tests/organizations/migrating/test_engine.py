"""The migration engine: caching, limits, retries and signals."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.state import StateApps
from django.db.models.signals import post_migrate, pre_migrate
from pytest_django import Settings

from organizations.migrating import compiled, engine
from organizations.migrating.engine import Engine, Target
from organizations.migrating.rehearsal import Step
from organizations.models import Organization
from organizations.provisioning import code
from organizations.tenancy import registry
from tests.organizations.helpers import as_role_of, together

from .added import ADD_FIELD, STRICT_ADDRESSES
from .conftest import REAL, Add, Fleet

BAD = "UPDATE users SET email = 'bad data'"
Four = list[Organization]
SLEEP = "organizations.migrating.engine.time.sleep"
GOOD = "UPDATE users SET email = 'admin@fleet.example'"


@pytest.fixture
def databases(_made: Fleet, add: Add) -> Iterator[Four]:
    """Four databases at the real migrations, before and after the test."""
    yield _made.rows
    back = Engine(Target("accounts", REAL))
    for organization in _made.rows:
        migrate(back, organization)


def ask(organization: Organization, query: str) -> list[tuple[Any, ...]]:
    with as_role_of(organization) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def migrate(engine: Engine, organization: Organization) -> engine.Outcome:
    return engine.migrate(organization.tenant, owner=organization.name)


def applied(organization: Organization) -> list[str]:
    rows = ask(organization, "SELECT name FROM django_migrations ORDER BY name")
    return [str(name) for (name,) in rows]


def both_ways(statement: str) -> dict[str, str]:
    """Two migrations of it: one that is compiled, and one that Django runs."""
    return {
        "compiled": f"migrations.RunSQL({statement!r}, migrations.RunSQL.noop)",
        "separate": f"migrations.SeparateDatabaseAndState([migrations.RunSQL({statement!r}, '')])",
    }


# --- Many databases ------------------------------------------------------------------------------
def test_threads_share_what_is_compiled_once(
    databases: Four, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(note=ADD_FIELD, python="migrations.RunPython(migrations.RunPython.noop, lambda *_: None)")
    made: list[object] = []
    make = compiled._statements

    def noting(step: Step, version: int) -> tuple[str, ...]:
        made.append(step.key)
        return make(step, version)

    monkeypatch.setattr(compiled, "_statements", noting)
    one = Engine()
    outcomes = together(*(lambda row=row: migrate(one, row) for row in databases))

    for organization, outcome in zip(databases, outcomes, strict=True):
        assert isinstance(outcome, engine.Outcome), outcome
        assert outcome.applied == (("accounts", "0004_note"), ("accounts", "0005_python"))
        assert outcome.fingerprint == one.fingerprint == code.current().fingerprint
        assert applied(organization)[-2:] == ["0004_note", "0005_python"]
    assert made == [("accounts", "0004_note"), ("accounts", "0005_python")]


def test_what_is_compiled_registers_no_alias(databases: Four, add: Add) -> None:
    add(note=ADD_FIELD)
    for organization in databases:
        registry.forget(organization.tenant.alias)
    before = registry.registered()
    migrate(Engine(), databases[0])
    assert registry.registered() == before


def test_what_is_kept_does_not_grow_with_the_databases(databases: Four, add: Add) -> None:
    add(note=ADD_FIELD, **both_ways("SELECT 1"))
    one = Engine()

    def states() -> int:
        gc.collect()
        # By its type: of a proxy whose object is gone isinstance would ask that.
        return sum(type(each) is StateApps for each in gc.get_objects())

    migrate(one, databases[0])
    before = states()
    for organization in databases[1:]:
        migrate(one, organization)
    assert states() <= before


# --- Failures and limits -------------------------------------------------------------------------
def test_a_migration_that_fails_leaves_nothing_and_those_before_it_stay(
    databases: Four, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SLEEP, lambda seconds: pytest.fail("tried again"))
    organization = databases[0]
    ask(organization, BAD)
    half = 'migrations.AddField("user", "half", models.TextField(null=True))'
    add(note=ADD_FIELD, strict=f"{half}, {STRICT_ADDRESSES}")
    try:
        with pytest.raises(psycopg.errors.CheckViolation):
            migrate(Engine(), organization)
    finally:
        ask(organization, GOOD)
    assert applied(organization)[-1] == "0004_note"
    found = ask(organization, "SELECT note FROM users LIMIT 1")
    assert found == [("",)]
    with pytest.raises(psycopg.errors.UndefinedColumn):
        ask(organization, "SELECT half FROM users")


@pytest.mark.parametrize("way", ["compiled", "separate"])
def test_a_lock_that_is_held_is_waited_for_shortly_and_tried_again(
    databases: Four,
    add: Add,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    settings.MIGRATION_LOCK_TIMEOUT_SECONDS = 0.05
    settings.MIGRATION_TRIES = 3
    organization = databases[0]
    add(**{way: both_ways("ALTER TABLE users ADD locked integer")[way]})
    try:
        with as_role_of(organization) as busy:
            busy.autocommit = False
            busy.execute("LOCK TABLE users")
            pauses: list[float] = []

            def pause(seconds: float) -> None:
                pauses.append(seconds)
                if len(pauses) == 2:
                    busy.rollback()

            monkeypatch.setattr(SLEEP, pause)
            outcome = migrate(Engine(), organization)
    finally:
        ask(organization, "ALTER TABLE users DROP IF EXISTS locked")
    assert len(outcome.applied) == 1
    assert 0.05 <= pauses[0] <= 0.15
    assert 0.1 <= pauses[1] <= 0.3


@pytest.mark.parametrize("way", ["compiled", "separate"])
def test_a_connection_that_is_cut_is_opened_again_until_the_last_try(
    databases: Four,
    add: Add,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    settings.MIGRATION_TRIES = 2
    organization = databases[0]
    ask(organization, "CREATE TABLE cuts AS SELECT 1")
    cut = "SELECT pg_terminate_backend(pg_backend_pid()) FROM cuts"
    add(note=ADD_FIELD, **{way: both_ways(cut)[way]})
    pauses: list[float] = []
    monkeypatch.setattr(SLEEP, pauses.append)
    try:
        with pytest.raises(Exception, match="terminating connection"):
            migrate(Engine(), organization)
        assert len(pauses) == 1
        monkeypatch.setattr(SLEEP, lambda seconds: ask(organization, "DELETE FROM cuts"))
        assert [name for _, name in migrate(Engine(), organization).applied] == [f"0005_{way}"]
    finally:
        ask(organization, "DROP TABLE cuts")


def test_statements_run_under_the_migrations_limits(
    databases: Four, add: Add, settings: Settings
) -> None:
    settings.MIGRATION_LOCK_TIMEOUT_SECONDS = 7
    settings.MIGRATION_STATEMENT_TIMEOUT_SECONDS = 9
    organization = databases[0]
    ask(organization, "CREATE TABLE limits (what text)")
    add(
        **both_ways(
            "INSERT INTO limits SELECT current_setting('lock_timeout') || ' ' || "
            "current_setting('statement_timeout')"
        )
    )
    try:
        migrate(Engine(), organization)
        assert ask(organization, "SELECT what FROM limits") == [("7s 9s",), ("7s 9s",)]
    finally:
        ask(organization, "DROP TABLE limits")


# --- What is said of it --------------------------------------------------------------------------
def test_the_plan_shows_sql_or_why_there_is_none(databases: Four, add: Add) -> None:
    callable_ = "lambda: 'x'"
    add(
        note=ADD_FIELD,
        python="migrations.RunPython(migrations.RunPython.noop)",
        made=f"migrations.AddField('user', 'made', models.TextField(default={callable_}))",
        asks="migrations.AlterField('user', 'email_key', models.TextField())",
        own="type('Own', (migrations.RunSQL,), {})('SELECT 1')",
    )
    organization = databases[0]
    note, *others = Engine().sql(organization.tenant, owner=organization.name)

    assert note.statements == (
        """ALTER TABLE "users" ADD COLUMN "note" varchar(20) DEFAULT '' NOT NULL""",
    )
    assert [(each.statements, each.reason) for each in others] == [
        (None, "RunPython"),
        (None, "the default of made is computed when it runs"),
        (None, "it queries the database"),
        (None, "Own"),
    ]
    assert applied(organization)[-1] == "0003_email_version", "nothing was done"


def test_an_irreversible_migration_is_reported(databases: Four, add: Add) -> None:
    organization = databases[0]
    add(note=ADD_FIELD, oneway="migrations.RunSQL('SELECT 1')")
    migrate(Engine(), organization)
    try:
        with pytest.raises(IrreversibleError, match="RunSQL"):
            migrate(Engine(Target("accounts", "0004")), organization)
        assert applied(organization)[-1] == "0005_oneway"
    finally:
        ask(organization, "DELETE FROM django_migrations WHERE name = '0005_oneway'")


def test_signal_receivers_are_called_for_each_database(databases: Four, add: Add) -> None:
    add(note=ADD_FIELD)
    heard: list[tuple[object, str, bool]] = []

    def hear(signal: object, sender: Any, using: str, apps: Any, **kwargs: Any) -> None:
        if sender.label == "accounts":
            fields = apps.get_model("accounts", "User")._meta.get_fields()
            heard.append((signal, using, "note" in {field.name for field in fields}))

    organization = databases[0]
    alias = organization.tenant.alias
    for signal in (pre_migrate, post_migrate):
        signal.connect(hear)
    try:
        migrate(Engine(), organization)
        migrate(Engine(), organization)
        assert heard == [(pre_migrate, alias, False), (post_migrate, alias, True)]
        heard.clear()
        migrate(Engine(Target("accounts", "0003")), organization)
        assert heard == [(pre_migrate, alias, True), (post_migrate, alias, False)]
    finally:
        for signal in (pre_migrate, post_migrate):
            signal.disconnect(hear)


# --- Squashed migrations -------------------------------------------------------------------------
PARTS = {
    name: f"migrations.AddField('user', '{name}', models.TextField(null=True))"
    for name in ("one", "two")
}


def squash(folder: Path) -> None:
    """Add one after the real ones that replaces 0004_one and 0005_two."""
    (folder / "0006_squashed.py").write_text(
        "from django.db import migrations, models\n"
        "class Migration(migrations.Migration):\n"
        "    replaces = [('accounts', '0004_one'), ('accounts', '0005_two')]\n"
        f"    dependencies = [('accounts', {REAL!r})]\n"
        f"    operations = [{', '.join(PARTS.values())}]\n"
    )


def test_squashed_migrations_are_there_where_what_they_replace_is(
    databases: Four, add: Add, tmp_path: Path, settings: Settings
) -> None:
    def new_code(**operations: str) -> Engine:
        add(**operations)
        squash(tmp_path / settings.MIGRATION_MODULES["accounts"])
        return Engine()

    all_of_it, half_of_it, nothing_of_it, _ = databases
    add(**PARTS)
    migrate(Engine(), all_of_it)
    migrate(Engine(Target("accounts", "0004")), half_of_it)
    squashed = new_code(**PARTS)
    outcomes = [migrate(squashed, each) for each in (all_of_it, half_of_it, nothing_of_it)]
    assert [[name for _, name in each.applied] for each in outcomes] == [
        [],
        ["0005_two"],
        ["0006_squashed"],
    ]
    for each, outcome in zip(databases, outcomes, strict=False):
        assert applied(each)[3:] == ["0004_one", "0005_two", "0006_squashed"]
        assert outcome.fingerprint == squashed.fingerprint == code.current().fingerprint

    # Back to one that was squashed, and to the end again.
    former = Engine(Target("accounts", "0004_one"))
    assert ("accounts", "0005_two") in former.to_unapply
    assert migrate(former, all_of_it).unapplied == (("accounts", "0005_two"),)
    assert migrate(squashed, all_of_it).applied == (("accounts", "0005_two"),)

    # The files of what was replaced go; their rows stay, and do not count.
    later = new_code()
    for each in databases:
        assert migrate(later, each).fingerprint == later.fingerprint == code.current().fingerprint
        assert applied(each)[3:] == ["0004_one", "0005_two", "0006_squashed"]
