"""The process that makes spare databases: killed at any step, stopped, and without a server."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import settings as configured
from django.core.management import CommandError, call_command
from pytest_django import Settings

from organizations import lifecycle
from organizations.errors import OrganizationError, TookTooLong
from organizations.models import SpareDatabase, Template
from organizations.postgres.sessions import ServerSession, open_session
from organizations.provisioning import copying, refill, templates
from tests.conftest import PASSWORD, leftovers
from tests.organizations.helpers import (
    Fork,
    Superuser,
    kill_in_a_fork,
    kill_this_process,
    together,
    wait_for,
)
from tests.plugin import SERVER

from .conftest import drop_templates

# Of a spare database, from its row to the moment before it is ready, and of a template likewise.
Moment = tuple[Any, str, str, str]
STEPS: list[Moment] = [
    (refill, "make_database", "before", ""),
    (copying, "ensure_role", "after", ""),
    (ServerSession, "execute", "before", "CREATE DATABASE"),
    (ServerSession, "execute", "after", "CREATE DATABASE"),
    (copying, "ensure_database", "after", ""),
    (copying, "_take_over", "after", ""),
    (refill, "make_database", "after", ""),
    (ServerSession, "execute", "after", "WITH INHERIT TRUE, SET FALSE"),
]
TEMPLATE_STEPS: list[Moment] = [
    (templates, "_make", "before", ""),
    (templates, "ensure_role", "after", ""),
    (templates, "ensure_database", "after", ""),
    (templates, "migrate_tenant", "after", ""),
    (templates, "_make", "after", ""),
    (templates, "_publish", "after", ""),
]


def kill_a_refill(moment: Moment) -> None:
    owner, name, when, statement = moment

    def fill_and_die() -> None:
        real = getattr(owner, name)

        def dying(*args: Any, **kwargs: Any) -> None:
            if when == "before" and statement in repr(args):
                kill_this_process()
            real(*args, **kwargs)
            if statement in repr(args):
                kill_this_process()

        setattr(owner, name, dying)
        configured.ORG_SPARE_DATABASES = 1
        with open_session() as session:
            refill.fill(session)

    kill_in_a_fork(fill_and_die)


def test_what_kill_9_leaves_of_a_spare_is_cleaned_by_reconcile(
    superuser: Superuser, template: Template
) -> None:
    for moment in STEPS:
        kill_a_refill(moment)
        (row,) = SpareDatabase.objects.all()
        assert not row.ready, moment
        undone = lifecycle.reconcile_organizations()["undone"]
        assert undone == [f"spare database {row.database_name}"], moment
        assert not SpareDatabase.objects.exists(), moment
        assert leftovers(superuser) == (set(), set()), moment
        assert templates.ready() == template, "the template is as good as before"


def test_what_kill_9_leaves_of_a_template_is_cleaned_by_reconcile(superuser: Superuser) -> None:
    for moment in TEMPLATE_STEPS:
        drop_templates()
        kill_a_refill(moment)
        lifecycle.reconcile_organizations()
        assert not SpareDatabase.objects.exists(), moment
        assert not Template.objects.filter(ready=False).exists(), moment
        assert leftovers(superuser) == (set(), set()), moment
    drop_templates()


def test_the_next_refill_cleans_up_too(
    superuser: Superuser, template: Template, settings: Settings
) -> None:
    kill_a_refill((copying, "ensure_database", "after", ""))
    settings.ORG_SPARE_DATABASES = 1
    with open_session() as session:
        assert refill.fill(session) == (1, 1)
        settings.ORG_SPARE_DATABASES = 0
        refill.fill(session)
    assert leftovers(superuser) == (set(), set())


# --- The loop ------------------------------------------------------------------------------------
def loop(wanted: int, **options: bool) -> Callable[[], None]:
    """`refill_spares --loop`, which looks ten times a second."""

    def run() -> None:
        configured.ORG_SPARE_DATABASES = wanted
        refill.POLL_SECONDS = 0.1
        call_command("refill_spares", loop=True, **options)

    return run


@contextmanager
def running(act: Callable[[], object]) -> Iterator[Fork]:
    """Run it during the block; its spares are dropped afterwards."""
    try:
        with Fork(act) as process:
            yield process
    finally:
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
def test_the_loop_refills_a_taken_spare_and_stops_when_told(
    settings: Settings, superuser: Superuser, number: signal.Signals
) -> None:
    with running(loop(2)) as process:
        wait_until_ready(2)
        settings.ORG_SPARE_DATABASES = 2
        created = lifecycle.create_organization(name="Taken", email="a@test.com", password=PASSWORD)
        settings.ORG_SPARE_DATABASES = 0
        assert created.report.path == "spare"
        wait_until_ready(2)
        cut_a_session_of_the_loop(superuser)
        wait_until_ready(2)
        process.send(number)
        assert process.wait(10) == 0
    lifecycle.delete_organization(created.organization)
    assert leftovers(superuser) == (set(), set())


def cut_a_session_of_the_loop(superuser: Superuser) -> None:
    """Cut a session of the loop, and take a spare away."""
    (pid,) = wait_for(
        superuser,
        "SELECT pid FROM pg_stat_activity WHERE starts_with(query, 'LISTEN') "
        "OR query LIKE '%%pg_advisory%%' AND datname = 'master_org_db' AND pid <> "
        "pg_backend_pid() AND state = 'idle' ORDER BY backend_start DESC",
    )
    superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    spare = SpareDatabase.objects.earliest("pk")
    SpareDatabase.objects.filter(pk=spare.pk).update(ready=False)


@pytest.mark.usefixtures("none_wanted_here", "template")
def test_the_loop_ends_with_the_process_that_started_it() -> None:
    read, write = os.pipe()

    def start_the_loop() -> None:
        with Fork(loop(1, with_parent=True)) as child:
            os.write(write, str(child.pid).encode())
            child.wait()

    with running(start_the_loop) as parent:
        child = int(os.read(read, 20))
        wait_until_ready(1)
        parent.send(signal.SIGKILL)
        assert parent.wait() == -signal.SIGKILL
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
    settings.LOCK_TIMEOUT_SECONDS = 0.3
    settings.ORG_SPARE_DATABASES = 0
    with psycopg.connect(**SERVER.superuser_parameters()) as blocker:  # type: ignore[arg-type]
        blocker.execute("LOCK TABLE pg_database IN SHARE ROW EXCLUSIVE MODE")
        with pytest.raises(TookTooLong), open_session() as session:
            refill.fill(session)
    assert SpareDatabase.objects.filter(ready=True).count() == len(spares) - 1


def said(*words: str) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_without_loop_it_says_what_it_did_and_ends(
    superuser: Superuser, settings: Settings
) -> None:
    settings.ORG_SPARE_DATABASES = 2
    assert said("refill_spares") == "2 wanted: 2 made, 0 dropped.\n"
    settings.ORG_SPARE_DATABASES = 0
    assert said("refill_spares") == "0 wanted: 0 made, 2 dropped.\n"
    assert leftovers(superuser) == (set(), set())


@pytest.mark.usefixtures("no_template")
def test_build_template_builds_one_and_rebuilds_it_on_request(
    settings: Settings,
) -> None:
    built = said("build_template")
    template = Template.objects.get()
    assert built == f"built: {template.database_name}\n"
    assert said("build_template") == f"already exists: {template.database_name}\n"
    again = said("build_template", "--rebuild")
    rebuilt = Template.objects.get()
    assert again == f"dropped: {template.database_name}\nbuilt: {rebuilt.database_name}\n"
    assert rebuilt.pk != template.pk
    settings.ORG_TEMPLATES = False
    with pytest.raises(CommandError, match="ORG_TEMPLATES is off"):
        said("build_template")


def test_an_idle_session_is_not_handed_to_two(settings: Settings) -> None:
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


def test_dropping_a_spare_that_was_taken_leaves_the_organization_alone(
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
