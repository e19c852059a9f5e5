"""Sign-ups that fail at each step, for real: nothing is left, and the name can be used again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
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
from organizations.postgres.roles import drop_role
from organizations.postgres.sessions import open_session
from tests import processes
from tests.conftest import PASSWORD, leftovers
from tests.plugin import SERVER

from .helpers import REPOSITORY, Code, Superuser, process_environment, wait_for

NAME = "Doomed Ltd"


@pytest.fixture(autouse=True)
def _plain_way(settings: Settings) -> None:
    """By the migrations. What fails on the way of a copy: provisioning/test_templates.py."""
    settings.ORG_TEMPLATES = False


def sign_up() -> Organization:
    made = lifecycle.create_organization(name=NAME, email="admin@test.com", password=PASSWORD)
    return made.organization


def assert_nothing_is_left_and_the_name_is_free(superuser: Superuser) -> None:
    assert not Organization.objects.live().named(NAME).exists(), "a row was left"
    assert leftovers(superuser) == (set(), set())
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
    """Puts a statement behind the tenant app's migrations, in a package of its own."""
    return Code(tmp_path, settings, monkeypatch).add


ON_FIRST_USER = """
CREATE FUNCTION doom() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {} RETURN NEW; END';
CREATE TRIGGER doom BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION doom();
"""


# --- Refused by the server ----------------------------------------------------------------------
@pytest.mark.parametrize("attribute", ["CREATEROLE", "CREATEDB"])
def test_a_missing_privilege_fails_with_a_sentence_and_leaves_nothing(
    superuser: Superuser, attribute: str
) -> None:
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


def test_what_a_migration_may_not_do_is_not_told_as_a_missing_right_of_the_application(
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
    behind: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Ends the session that the query names, as soon as there is one, from another thread."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            (pid,) = wait_for(superuser, query, *parameters)
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        except BaseException as error:
            failures.append(error)
        finally:
            behind()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        assert not failures, failures


@pytest.mark.parametrize(
    ("catalog", "statement"),
    [("pg_authid", "CREATE ROLE"), ("pg_database", "CREATE DATABASE")],
)
def test_a_session_with_the_master_that_is_cut_in_mid_step_leaves_nothing(
    superuser: Superuser, catalog: str, statement: str
) -> None:
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND starts_with(query, %s)"
    )
    with psycopg.connect(**SERVER.superuser_parameters()) as blocker:  # type: ignore[arg-type]
        # Readers go on; the statement waits, and is cut while it does.
        blocker.execute(f"LOCK TABLE {catalog} IN SHARE ROW EXCLUSIVE MODE".encode())
        with (
            cut(superuser, waiting, statement, behind=blocker.rollback),
            pytest.raises(ServerUnavailable, match="Try again"),
        ):
            sign_up()
    assert_nothing_is_left_and_the_name_is_free(superuser)


@pytest.mark.parametrize("step", ["schema", "admin"])
def test_a_session_with_the_new_database_that_is_cut_in_mid_step_leaves_nothing(
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


def test_a_lost_lock_is_taken_anew_before_anything_is_taken_back(
    superuser: Superuser, migration: Callable[[str], None], settings: Settings
) -> None:
    """The session with the master dies during `schema`, and then the step fails too."""
    migration("SELECT pg_sleep(1); SELECT 1 / 0")
    holding = (
        "SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND EXISTS "
        "(SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')"
    )
    with cut(superuser, holding), pytest.raises(OrganizationError):
        sign_up()
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
        with cut(superuser, idle, behind=blocker.rollback), pytest.raises(ServerUnavailable):
            sign_up()
    assert_nothing_is_left_and_the_name_is_free(superuser)


# --- Kept waiting -------------------------------------------------------------------------------
@pytest.mark.parametrize("catalog", ["pg_authid", "pg_database"])
def test_a_step_waits_for_no_lock_for_ever_and_leaves_nothing(
    superuser: Superuser, settings: Settings, catalog: str
) -> None:
    settings.LOCK_TIMEOUT_SECONDS = 1
    with psycopg.connect(**SERVER.superuser_parameters()) as blocker:  # type: ignore[arg-type]
        blocker.execute(f"LOCK TABLE {catalog} IN SHARE ROW EXCLUSIVE MODE".encode())
        with pytest.raises(TookTooLong):
            sign_up()
    lifecycle.reconcile_organizations()  # What it could not take back, for the lock.
    assert_nothing_is_left_and_the_name_is_free(superuser)


@pytest.mark.timeout(30)
def test_a_role_that_cannot_be_dropped_now_holds_nobody_up(
    superuser: Superuser, settings: Settings
) -> None:
    organization = sign_up()
    settings.LOCK_TIMEOUT_SECONDS = 60
    with psycopg.connect(**SERVER.superuser_parameters()) as blocker, open_session() as session:  # type: ignore[arg-type]
        blocker.execute("LOCK TABLE pg_authid IN SHARE ROW EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            drop_role(session, role=organization.role_name)
    lifecycle.delete_organization(organization)
    assert leftovers(superuser) == (set(), set())


# --- Killed -------------------------------------------------------------------------------------
KILLED_AT = """
import os, signal, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")
import django
django.setup()
from organizations import lifecycle
from organizations.provisioning import making
from organizations.provisioning.report import Record
step, name, password = sys.argv[1:]
def die():
    os.kill(os.getpid(), signal.SIGKILL)
record = Record.reached
def record_and_die(self, reached):
    record(self, reached)
    if reached == step:
        die()
Record.reached = record_and_die
if step == "nothing":
    making.make_database = lambda *args, **kwargs: die()
lifecycle.create_organization(name=name, email="admin@test.com", password=password)
"""


def kill_a_sign_up_behind(step: str, *, templates: str = "off") -> None:
    ended = processes.run(
        *("-c", KILLED_AT, step, NAME, PASSWORD),
        cwd=REPOSITORY,
        env=process_environment(ORG_TEMPLATES=templates),
    )
    assert ended.returncode == -9, ended.stderr


@pytest.mark.parametrize("templates", ["off", "on"])
@pytest.mark.parametrize("step", Organization.Step.values)
def test_what_kill_9_leaves_behind_each_step_is_undone_by_reconcile(
    superuser: Superuser, step: str, templates: str
) -> None:
    kill_a_sign_up_behind(step, templates=templates)
    row = Organization.objects.live().named(NAME).get()
    assert (row.status, row.provisioned) == (Organization.Status.PROVISIONING, step)
    assert lifecycle.reconcile_organizations()["undone"] == [NAME]
    assert_nothing_is_left_and_the_name_is_free(superuser)


def test_a_sign_up_finishes_the_story_of_one_that_was_killed(superuser: Superuser) -> None:
    kill_a_sign_up_behind("schema")
    lifecycle.delete_organization(sign_up())
    assert leftovers(superuser) == (set(), set())
