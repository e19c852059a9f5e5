"""The database refuses every change of the audit trail; one function prunes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from organizations import audit
from organizations.checks.audit import check_trail
from organizations.models import AuditEntry
from organizations.postgres.superuser_sql import master_statements, server_statements
from organizations.tenancy import trail
from tests.organizations.helpers import Superuser, manage_here
from tests.plugin import SERVER

CHANGES = [
    "UPDATE audit_entries SET act = 'changed'",
    "UPDATE audit_entries SET act = 'changed' WHERE false",
    "DELETE FROM audit_entries",
    "DELETE FROM audit_entries WHERE false",
    "TRUNCATE audit_entries",
    "TRUNCATE audit_entries RESTART IDENTITY CASCADE",
    "MERGE INTO audit_entries USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
    "INSERT INTO audit_entries (id, act, actor, person, request_id, facts) "
    "SELECT max(id), '', '', '', '', '{}' FROM audit_entries "
    "ON CONFLICT (id) DO UPDATE SET act = 'changed'",
]


@pytest.fixture
def master() -> Iterator[Superuser]:
    """The master database as the server's superuser sees it."""
    with psycopg.connect(
        **SERVER.superuser_parameters("master_org_db"),  # type: ignore[arg-type]
        autocommit=True,
    ) as opened:
        yield opened


@pytest.fixture
def entry() -> AuditEntry:
    trail.record("organization.suspended", facts={"of": "a test"})
    return AuditEntry.objects.latest("id")


def plant(superuser: Superuser, *, days: int) -> int:
    """Insert an entry of that age, without the code under test."""
    row = superuser.execute(
        "INSERT INTO audit_entries (at, act, actor, person, request_id, facts) "
        "VALUES (now() - %s * interval '1 day', 'planted', 'system', '', '', '{}') RETURNING id",
        (days,),
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def test_a_superuser_is_refused_by_the_triggers(master: Superuser, entry: AuditEntry) -> None:
    for role in ("origin", "replica"):
        master.execute(f"SET session_replication_role = {role}".encode())
        for statement in CHANGES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                master.execute(statement.encode())
                pytest.fail(f"not refused: {statement}")
    entry.refresh_from_db()
    assert entry.act == "organization.suspended"


def test_rows_are_refused_by_a_table_that_was_made_their_parent(
    master: Superuser, entry: AuditEntry
) -> None:
    """A statement on the parent fires no statement trigger of the child."""
    master.execute("CREATE TABLE parent (LIKE audit_entries)")
    master.execute("ALTER TABLE audit_entries INHERIT parent")
    try:
        for statement in ("UPDATE parent SET act = 'changed'", "DELETE FROM parent"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                master.execute(statement.encode())
    finally:
        master.execute("ALTER TABLE audit_entries NO INHERIT parent")
        master.execute("DROP TABLE parent")


@pytest.mark.usefixtures("entry")
def test_the_applications_role_has_no_right_to_change_it() -> None:
    with psycopg.connect(**SERVER.connection_parameters(), autocommit=True) as application:  # type: ignore[arg-type]
        for statement in CHANGES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
                application.execute(statement.encode())
                pytest.fail(f"not refused: {statement}")


def test_pruning_deletes_what_is_older_than_the_setting_and_nothing_else(
    master: Superuser, settings: Settings
) -> None:
    settings.AUDIT_RETENTION_DAYS = 90
    old, young = plant(master, days=91), plant(master, days=89)
    assert audit.prune() == 1
    kept = AuditEntry.objects.filter(pk__in=[old, young]).values_list("pk", flat=True)
    assert list(kept) == [young]
    told = AuditEntry.objects.filter(act="audit.pruned").latest("id")
    assert told.facts["days"] == 90
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        master.execute("DELETE FROM audit_entries WHERE act = 'planted'")


def test_more_than_one_batch_is_pruned(master: Superuser, settings: Settings) -> None:
    settings.AUDIT_RETENTION_DAYS = 4_000
    master.execute(
        "INSERT INTO audit_entries (at, act, actor, person, request_id, facts) "
        "SELECT now() - interval '4001 days', 'planted', 'system', '', '', '{}' "
        "FROM generate_series(1, 5001)"
    )
    assert audit.prune() == 5_001


def test_the_function_keeps_the_last_thirty_days_whoever_calls_it(master: Superuser) -> None:
    planted = plant(master, days=29)
    for before in ("now() - interval '29 days'", "'infinity'", "NULL"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="the last 30 days are kept"):
            master.execute(f"SELECT audit_prune({before})".encode())
    assert AuditEntry.objects.filter(pk=planted).exists()


@contextmanager
def hurried(master: Superuser) -> Iterator[None]:
    """The function waits for a tenth of a second instead of five during the block."""
    function = "FUNCTION audit_prune(timestamptz)"
    limits = master.execute("SELECT proconfig FROM pg_proc WHERE proname = 'audit_prune'")
    assert "lock_timeout=5s" in str(limits.fetchone())
    master.execute(f"ALTER {function} SET lock_timeout = '100ms'".encode())
    try:
        yield
    finally:
        master.execute(f"ALTER {function} SET lock_timeout = '5s'".encode())


def test_pruning_gives_up_while_the_table_is_locked(master: Superuser, settings: Settings) -> None:
    """It waits five seconds at most, and so does everybody queued after it."""
    plant(master, days=31)
    application: dict[str, Any] = SERVER.connection_parameters()
    with hurried(master), psycopg.connect(**application) as writer:
        writer.execute(
            "INSERT INTO audit_entries (act, actor, person, request_id, facts) "
            "VALUES ('planted', 'system', '', '', '{}')"
        )
        with pytest.raises(psycopg.errors.LockNotAvailable):
            master.execute("SELECT audit_prune(now() - interval '30 days 1 hour')")
        writer.rollback()
    assert audit_triggers(master) == {"A"}


def audit_triggers(master: Superuser) -> set[str]:
    rows = master.execute(
        "SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = 'audit_entries'::regclass"
    )
    return {str(state) for (state,) in rows}


def test_the_command_prunes_and_says_how_many(master: Superuser) -> None:
    plant(master, days=401)
    ended = manage_here("prune_audit")
    assert (ended.returncode, ended.stdout) == (0, "Deleted 1 audit entries.\n")
    acts = AuditEntry.objects.filter(at__gt=timezone.now() - timedelta(minutes=5))
    assert {"audit.pruned", "command.run"} <= set(acts.values_list("act", flat=True))


# --- The checks ---------------------------------------------------------------------------------
def said() -> list[str | None]:
    return [message.id for message in check_trail(databases=["default"])]


def test_the_checks_are_silent_where_an_owner_was_set_up() -> None:
    assert said() == []
    assert list(check_trail()) == [], "it asked without a database to ask"


def test_a_role_that_could_change_the_trail_is_warned_of(master: Superuser) -> None:
    for open_it in (
        "ALTER TABLE audit_entries OWNER TO orgmgmt",
        "ALTER DATABASE master_org_db OWNER TO orgmgmt",
        "ALTER SCHEMA public OWNER TO orgmgmt",
        "GRANT DELETE ON audit_entries TO orgmgmt",
        "ALTER FUNCTION audit_prune(timestamptz) OWNER TO orgmgmt",
    ):
        master.execute(open_it.encode())
        try:
            assert said() == ["organizations.W010"], open_it
        finally:
            for statement in (
                *server_statements(application_role="orgmgmt", master_database="master_org_db"),
                *master_statements(application_role="orgmgmt"),
            ):
                master.execute(statement)
        assert said() == [], open_it


def test_a_superuser_as_the_applications_role_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parameters = SERVER.superuser_parameters()
    for key, name in (("USER", "user"), ("PASSWORD", "password")):
        monkeypatch.setitem(connection.settings_dict, key, str(parameters[name]))
    assert said() == ["organizations.W010"]


def test_a_trigger_that_is_off_is_warned_of(master: Superuser) -> None:
    for state in ("DISABLE", "ENABLE REPLICA", "ENABLE"):
        trigger = "TRIGGER audit_entries_no_update"
        master.execute(f"ALTER TABLE audit_entries {state} {trigger}".encode())
        try:
            assert said() == ["organizations.W011"], state
        finally:
            master.execute(f"ALTER TABLE audit_entries ENABLE ALWAYS {trigger}".encode())
    assert said() == []
