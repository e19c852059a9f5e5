"""The process that makes databases ahead: killed at any step, stopped, and without a server."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from pytest_django import Settings

from organizations import lifecycle
from organizations.errors import OrganizationError, TookTooLong
from organizations.models import SpareDatabase, Template
from organizations.postgres.sessions import open_session
from organizations.provisioning import refill, templates
from tests import processes
from tests.conftest import PASSWORD, leftovers
from tests.organizations.helpers import (
    REPOSITORY,
    Superuser,
    manage,
    process_environment,
    together,
    wait_for,
)
from tests.plugin import SERVER

KILLED_AT = """
import os, signal, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")
import django
django.setup()
from organizations.provisioning import copying, refill, templates
from organizations.postgres.sessions import ServerSession, open_session
module, name, when, statement = sys.argv[1:]
where = {"copying": copying, "refill": refill, "templates": templates}
where["session"] = ServerSession
real = getattr(where[module], name)
def dying(*args, **kwargs):
    if when == "before" and statement in repr(args):
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args, **kwargs)
    if statement in repr(args):
        os.kill(os.getpid(), signal.SIGKILL)
setattr(where[module], name, dying)
with open_session() as session:
    refill.fill(session)
"""
# Of a spare database, from its row to the moment before it is ready, and of a template likewise.
STEPS = [
    ("refill", "make_database", "before", ""),
    ("copying", "ensure_role", "behind", ""),
    ("session", "execute", "before", "CREATE DATABASE"),
    ("session", "execute", "behind", "CREATE DATABASE"),
    ("copying", "ensure_database", "behind", ""),
    ("copying", "_take_over", "behind", ""),
    ("refill", "make_database", "behind", ""),
    ("session", "execute", "behind", "WITH INHERIT TRUE, SET FALSE"),
]
TEMPLATE_STEPS = [
    ("templates", "_make", "before", ""),
    ("templates", "ensure_role", "behind", ""),
    ("templates", "ensure_database", "behind", ""),
    ("templates", "migrate_tenant", "behind", ""),
    ("templates", "_make", "behind", ""),
    ("templates", "_publish", "behind", ""),
]


def kill_a_refill(*at: str) -> None:
    ended = processes.run(
        "-c", KILLED_AT, *at, cwd=REPOSITORY, env=process_environment(ORG_SPARE_DATABASES="1")
    )
    assert ended.returncode == -9, ended.stderr


@pytest.mark.parametrize("at", STEPS, ids=lambda at: " ".join(at))
def test_what_kill_9_leaves_of_a_spare_is_cleaned_by_reconcile(
    superuser: Superuser, template: Template, at: tuple[str, ...]
) -> None:
    kill_a_refill(*at)
    (row,) = SpareDatabase.objects.all()
    assert not row.ready
    assert lifecycle.reconcile_organizations()["undone"] == [f"spare database {row.database_name}"]
    assert not SpareDatabase.objects.exists()
    assert leftovers(superuser) == (set(), set())
    assert templates.ready() == template, "the template is as good as before"


@pytest.mark.usefixtures("no_template")
@pytest.mark.parametrize("at", TEMPLATE_STEPS, ids=lambda at: " ".join(at))
def test_what_kill_9_leaves_of_a_template_is_cleaned_by_reconcile(
    superuser: Superuser, at: tuple[str, ...]
) -> None:
    kill_a_refill(*at)
    lifecycle.reconcile_organizations()
    assert not SpareDatabase.objects.exists()
    assert not Template.objects.filter(ready=False).exists()
    assert leftovers(superuser) == (set(), set())


def test_the_next_refill_cleans_up_too(
    superuser: Superuser, template: Template, settings: Settings
) -> None:
    kill_a_refill("copying", "ensure_database", "behind", "")
    settings.ORG_SPARE_DATABASES = 1
    with open_session() as session:
        assert refill.fill(session) == (1, 1)
        settings.ORG_SPARE_DATABASES = 0
        refill.fill(session)
    assert leftovers(superuser) == (set(), set())


# --- The loop ------------------------------------------------------------------------------------
@contextmanager
def running(*arguments: str, through: str = "", wanted: int = 2) -> Iterator[subprocess.Popen[str]]:
    """`refill_spares --loop` on this test's server; through: a shell's line that starts it."""
    command = [sys.executable, "manage.py", "refill_spares", "--loop", *arguments]
    process = subprocess.Popen(
        ["sh", "-c", through, "sh", *command] if through else command,
        cwd=REPOSITORY,
        env=process_environment(ORG_SPARE_DATABASES=str(wanted)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        with open_session() as session:
            refill.fill(session)


def wait_until_ready(count: int) -> None:
    deadline = time.monotonic() + 30
    while SpareDatabase.objects.filter(ready=True).count() != count:
        assert time.monotonic() < deadline, "they were not made"
        time.sleep(0.02)


@pytest.fixture
def none_wanted_here(settings: Settings) -> None:
    settings.ORG_SPARE_DATABASES = 0


@pytest.mark.usefixtures("none_wanted_here", "template")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_loop_refills_when_one_is_taken_and_ends_when_it_is_told(
    settings: Settings, superuser: Superuser, number: signal.Signals
) -> None:
    with running() as process:
        wait_until_ready(2)
        settings.ORG_SPARE_DATABASES = 2
        created = lifecycle.create_organization(name="Taken", email="a@test.com", password=PASSWORD)
        settings.ORG_SPARE_DATABASES = 0
        assert created.report.path == "spare"
        wait_until_ready(2)
        process.send_signal(number)
        assert process.wait(10) == 0, process.communicate()[1]
    lifecycle.delete_organization(created.organization)
    assert leftovers(superuser) == (set(), set())


@pytest.mark.usefixtures("none_wanted_here", "template")
def test_the_loop_survives_that_its_sessions_are_cut(superuser: Superuser) -> None:
    with running() as process:
        wait_until_ready(2)
        (pid,) = wait_for(
            superuser,
            "SELECT pid FROM pg_stat_activity WHERE starts_with(query, 'LISTEN') "
            "OR query LIKE '%%pg_advisory%%' AND datname = 'master_org_db' AND pid <> "
            "pg_backend_pid() AND state = 'idle' ORDER BY backend_start DESC",
        )
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        spare = SpareDatabase.objects.first()
        assert spare is not None
        SpareDatabase.objects.filter(pk=spare.pk).update(ready=False)
        wait_until_ready(2)
        assert process.poll() is None


@pytest.mark.usefixtures("none_wanted_here", "template")
def test_the_loop_ends_with_the_process_that_started_it() -> None:
    with running("--with-parent", through='"$@" & echo $! >&2; wait', wanted=1) as shell:
        assert shell.stderr is not None
        child = int(shell.stderr.readline())
        wait_until_ready(1)
        shell.kill()
        shell.wait()
        deadline = time.monotonic() + 10
        while is_alive(child):
            assert time.monotonic() < deadline, "it outlives its parent"
            time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().split()[2] != "Z"


def test_a_refill_that_fails_is_tried_again_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    def fail(*args: object, **kwargs: object) -> tuple[int, int]:
        raise OrganizationError("it cannot be made")

    monkeypatch.setattr(refill, "fill", fail)
    refill.run(goes_on=lambda: len(pauses) < 7, pause=pauses.append)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


# --- The commands --------------------------------------------------------------------------------
@pytest.mark.usefixtures("none_wanted_here", "template")
def test_a_lock_that_holds_up_every_drop_is_waited_for_once(
    spares: list[SpareDatabase], settings: Settings
) -> None:
    settings.LOCK_TIMEOUT_SECONDS = 1
    settings.ORG_SPARE_DATABASES = 0
    with psycopg.connect(**SERVER.superuser_parameters()) as blocker:  # type: ignore[arg-type]
        blocker.execute("LOCK TABLE pg_database IN SHARE ROW EXCLUSIVE MODE")
        with pytest.raises(TookTooLong), open_session() as session:
            refill.fill(session)
    assert SpareDatabase.objects.filter(ready=True).count() == len(spares) - 1


def test_without_loop_it_says_what_it_did_and_ends(superuser: Superuser) -> None:
    filled = manage("refill_spares", ORG_SPARE_DATABASES="2")
    assert (filled.returncode, filled.stdout) == (0, "2 wanted: 2 made, 0 dropped.\n")
    emptied = manage("refill_spares", ORG_SPARE_DATABASES="0")
    assert (emptied.returncode, emptied.stdout) == (0, "0 wanted: 0 made, 2 dropped.\n")
    assert leftovers(superuser) == (set(), set())


@pytest.mark.usefixtures("no_template")
def test_build_template_builds_one_and_says_so_and_another_where_that_is_wanted() -> None:
    first = manage("build_template")
    assert first.returncode == 0, first.stderr
    template = Template.objects.get()
    assert first.stdout == f"built: {template.database_name}\n"
    assert manage("build_template").stdout == f"already exists: {template.database_name}\n"
    again = manage("build_template", "--rebuild").stdout
    rebuilt = Template.objects.get()
    assert again == f"dropped: {template.database_name}\nbuilt: {rebuilt.database_name}\n"
    assert rebuilt.pk != template.pk
    off = manage("build_template", ORG_TEMPLATES="off")
    assert off.returncode == 1
    assert "ORG_TEMPLATES is off" in off.stderr


def test_a_session_that_waits_for_its_next_use_is_not_had_by_two(settings: Settings) -> None:
    seen: list[int] = []
    lock = threading.Lock()

    def use() -> None:
        for _ in range(5):
            with open_session() as session:
                pid = session.connection.info.backend_pid
                with lock:
                    assert pid not in seen
                    seen.append(pid)
                session.value("SELECT pg_sleep(0.01)")
                with lock:
                    seen.remove(pid)

    acts: list[Callable[[], object]] = [use] * 4
    assert together(*acts) == [None] * 4


def test_drop_of_a_spare_that_was_taken_meanwhile_leaves_the_organization_alone(
    settings: Settings,
) -> None:
    from organizations.provisioning import spares

    settings.ORG_SPARE_DATABASES = 1
    with open_session() as session:
        refill.fill(session)
        spare = SpareDatabase.objects.get()
        created = lifecycle.create_organization(name="Quick", email="a@test.com", password=PASSWORD)
        assert spares.drop(session, spare) is False
        row = session.database_owner(created.organization.database_name)
    assert row == spare.role_name
    lifecycle.delete_organization(created.organization)
    settings.ORG_SPARE_DATABASES = 0
