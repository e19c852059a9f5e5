"""Sign-ups that fail at each step, for real: nothing is left, and the name is free again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.test import override_settings
from psycopg import sql
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import (
    OrganizationError,
    ProvisioningFailed,
    ServerUnavailable,
    TookTooLong,
)
from organizations.models import Organization
from organizations.naming import name_key
from organizations.postgres import roles
from organizations.postgres.sessions import open_session
from organizations.provisioning import making
from organizations.provisioning.report import Record
from tests.conftest import PASSWORD, leftovers
from tests.plugin import SERVER

from .helpers import Code, Superuser, kill_in_a_fork, kill_this_process, wait_for

NAME = "Doomed Ltd"


@pytest.fixture(autouse=True)
def _plain_way(settings: Settings) -> None:
    """Use the plain path. Failures of copies are in provisioning/test_templates.py."""
    settings.ORG_TEMPLATES = False


def sign_up() -> Organization:
    made = lifecycle.create_organization(name=NAME, email="admin@test.com", password=PASSWORD)
    return made.organization


def assert_nothing_is_left_and_the_name_is_free(superuser: Superuser) -> None:
    assert not Organization.objects.live().named(NAME).exists(), "a row was left"
    assert leftovers(superuser) == (set(), set())
    with override_settings(ORG_TEMPLATES=True):
        organization = sign_up()
    with tenancy.override(organization.tenant):
        assert User.objects.get().email == "admin@test.com"
    lifecycle.delete_organization(organization)
    assert leftovers(superuser) == (set(), set())


@contextmanager
def without(superuser: Superuser, attribute: str) -> Iterator[None]:
    """The application's role lacks an attribute inside the block."""
    role = sql.Identifier(str(SERVER.connection_parameters()["user"]))
    superuser.execute(sql.SQL("ALTER ROLE {} NO" + attribute).format(role))
    try:
        yield
    finally:
        superuser.execute(sql.SQL("ALTER ROLE {} " + attribute).format(role))


@pytest.fixture
def migration(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Adds a statement after the tenant app's migrations, in a package of its own."""
    return Code(tmp_path, settings, monkeypatch).add


ON_FIRST_USER = """
CREATE FUNCTION doom() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {} RETURN NEW; END';
CREATE TRIGGER doom BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION doom();
"""


# --- Refused by the server ----------------------------------------------------------------------
def test_a_missing_privilege_fails_with_a_sentence_and_leaves_nothing(
    superuser: Superuser,
) -> None:
    for attribute in ("CREATEROLE", "CREATEDB"):
        with without(superuser, attribute):
            with pytest.raises(ProvisioningFailed, match=r"permission denied.*server_sql"):
                sign_up()
            assert not Organization.objects.live().named(NAME).exists(), "the row was left"
    assert_nothing_is_left_and_the_name_is_free(superuser)


def test_a_migration_that_fails_leaves_nothing(
    superuser: Superuser, migration: Callable[[str], None], settings: Settings
) -> None:
    migration("SELECT 1 / 0")
    with pytest.raises(ProvisioningFailed, match="step after 'database' failed") as caught:
        sign_up()
    assert "org_" not in str(caught.value), "the server's own words stay in the log"
    settings.MIGRATION_MODULES = {}
    assert_nothing_is_left_and_the_name_is_free(superuser)


def test_a_forbidden_statement_in_a_migration_is_not_blamed_on_createdb(
    migration: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    migration("SELECT pg_read_file('postgresql.conf')")
    with pytest.raises(ProvisioningFailed, match=r"in migration accounts\.0002_added\.") as caught:
        sign_up()
    assert "CREATEDB" not in str(caught.value)
    (record,) = [each for each in caplog.records if each.message == "provisioning failed"]
    assert record.levelname == "ERROR"
    assert "permission denied for function pg_read_file" in caplog.text


def test_a_first_admin_that_cannot_be_written_leaves_nothing(
    superuser: Superuser, migration: Callable[[str], None], settings: Settings
) -> None:
    migration(ON_FIRST_USER.format("RAISE EXCEPTION $$doomed$$;"))
    with pytest.raises(ProvisioningFailed, match="step after 'schema' failed"):
        sign_up()
    settings.MIGRATION_MODULES = {}
    assert_nothing_is_left_and_the_name_is_free(superuser)


# --- Cut by the server --------------------------------------------------------------------------
@contextmanager
def cut(
    superuser: Superuser,
    query: str,
    *parameters: object,
    then: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """End the session that the query finds, as soon as there is one, from another thread."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            (pid,) = wait_for(superuser, query, *parameters)
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        except BaseException as error:
            failures.append(error)
        finally:
            then()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        assert not failures, failures


def test_cutting_the_masters_session_leaves_nothing(
    superuser: Superuser,
) -> None:
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND starts_with(query, %s)"
    )
    for catalog, statement in (("pg_authid", "CREATE ROLE"), ("pg_database", "CREATE DATABASE")):
        with psycopg.connect(**SERVER.superuser_parameters()) as blocker:  # type: ignore[arg-type]
            # Readers go on; the statement waits, and is cut while it does.
            blocker.execute(f"LOCK TABLE {catalog} IN SHARE ROW EXCLUSIVE MODE".encode())
            with (
                cut(superuser, waiting, statement, then=blocker.rollback),
                pytest.raises(ServerUnavailable, match="Try again"),
            ):
                sign_up()
        assert_nothing_is_left_and_the_name_is_free(superuser)


@pytest.mark.parametrize("step", ["schema", "admin"])
def test_cutting_the_new_databases_session_leaves_nothing(
    superuser: Superuser, migration: Callable[[str], None], settings: Settings, step: str
) -> None:
    migration(
        "SELECT pg_sleep(60)" if step == "schema" else ON_FIRST_USER.format("PERFORM pg_sleep(60);")
    )
    sleeping = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename LIKE 'orgrole%'"
    )
    with cut(superuser, sleeping), pytest.raises(ServerUnavailable):
        sign_up()
    settings.MIGRATION_MODULES = {}
    assert_nothing_is_left_and_the_name_is_free(superuser)


def test_a_lost_lock_is_taken_again_before_anything_is_undone(
    superuser: Superuser, migration: Callable[[str], None], settings: Settings
) -> None:
    """The session with the master dies during `schema`, and then the step fails too. Meanwhile
    another process has the name."""
    migration("SELECT pg_sleep(1); SELECT 1 / 0")
    holding = (
        "SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND EXISTS "
        "(SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')"
    )
    rows_meanwhile: list[int] = []

    def have_the_name() -> None:
        with open_session(new=True) as other:
            other.lock(name_key(NAME), name=NAME, timeout_seconds=5)
            wait_for(superuser, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory'")
            count = "SELECT count(*) FROM organizations WHERE name = %s AND status <> 'deleted'"
            rows_meanwhile.append(other.value(count, (NAME,)))

    with cut(superuser, holding, then=have_the_name), pytest.raises(OrganizationError):
        sign_up()
    assert rows_meanwhile == [1], "it was taken back without the lock"
    settings.MIGRATION_MODULES = {}
    assert_nothing_is_left_and_the_name_is_free(superuser)


def test_a_connection_of_djangos_that_is_cut_leaves_nothing(superuser: Superuser) -> None:
    """The row is kept through Django's own connection, which does not notice until it is used."""
    idle = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE starts_with(query, 'INSERT INTO \"organizations\"') AND EXISTS ("
        "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND starts_with(query, 'CREATE ROLE'))"
    )
    with psycopg.connect(**SERVER.superuser_parameters()) as blocker:  # type: ignore[arg-type]
        blocker.execute("LOCK TABLE pg_authid IN SHARE ROW EXCLUSIVE MODE")
        with cut(superuser, idle, then=blocker.rollback), pytest.raises(ServerUnavailable):
            sign_up()
    assert_nothing_is_left_and_the_name_is_free(superuser)


# --- Kept waiting -------------------------------------------------------------------------------
def test_a_step_gives_up_waiting_for_a_lock_and_leaves_nothing(
    superuser: Superuser, settings: Settings
) -> None:
    settings.LOCK_TIMEOUT_SECONDS = 0.3
    for catalog in ("pg_authid", "pg_database"):
        with psycopg.connect(**SERVER.superuser_parameters()) as blocker:  # type: ignore[arg-type]
            blocker.execute(f"LOCK TABLE {catalog} IN SHARE ROW EXCLUSIVE MODE".encode())
            with pytest.raises(TookTooLong):
                sign_up()
        lifecycle.reconcile_organizations()  # What it could not take back, for the lock.
        assert_nothing_is_left_and_the_name_is_free(superuser)


@pytest.mark.timeout(30)
def test_a_role_that_cannot_be_dropped_is_not_waited_for(
    superuser: Superuser, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    organization = sign_up()
    settings.LOCK_TIMEOUT_SECONDS = 60
    monkeypatch.setattr(roles, "_DROP_WAIT", "200ms")
    with psycopg.connect(**SERVER.superuser_parameters()) as blocker, open_session() as session:  # type: ignore[arg-type]
        blocker.execute("LOCK TABLE pg_authid IN SHARE ROW EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            roles.drop_role(session, role=organization.role_name)
    lifecycle.delete_organization(organization)
    assert leftovers(superuser) == (set(), set())


# --- Killed -------------------------------------------------------------------------------------
def kill_a_sign_up(name: str, last: str, *, copied: bool = False) -> None:
    """Kill a sign-up after the step (SIGKILL). copied: by template, not by migrations."""

    def sign_up_and_die() -> None:
        settings.ORG_TEMPLATES = copied
        record = Record.reached

        def record_and_die(self: Record, step: Organization.Step) -> None:
            record(self, step)
            if step == last:
                kill_this_process()

        Record.reached = record_and_die  # type: ignore[method-assign]
        if last == "nothing":
            making.make_database = lambda *args, **kwargs: kill_this_process()
        lifecycle.create_organization(name=name, email="admin@test.com", password=PASSWORD)

    kill_in_a_fork(sign_up_and_die)


def test_what_kill_9_leaves_after_each_step_is_undone_by_reconcile(superuser: Superuser) -> None:
    left = []
    for copied in (False, True):
        for step in Organization.Step.values:
            name = f"Doomed {step} {copied}"
            kill_a_sign_up(name, step, copied=copied)
            left.append((name, Organization.Status.PROVISIONING, step))
    rows = Organization.objects.filter(name__startswith="Doomed ").exclude(status="deleted")
    assert [(row.name, row.status, row.provisioned) for row in rows.order_by("pk")] == left
    undone = lifecycle.reconcile_organizations()["undone"]
    assert sorted(undone) == sorted(name for name, *_ in left)
    assert_nothing_is_left_and_the_name_is_free(superuser)


def test_a_sign_up_undoes_one_that_was_killed(superuser: Superuser) -> None:
    kill_a_sign_up(NAME, "schema")
    lifecycle.delete_organization(sign_up())
    assert leftovers(superuser) == (set(), set())
