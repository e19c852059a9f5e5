"""Interrupted restores: the old database serves until the switch is committed, then the new one;
nothing is left over."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import DataError, transaction
from django.test import Client
from pytest_django import Settings

from organizations import lifecycle
from organizations.backups import making as backups
from organizations.backups import verifying
from organizations.errors import RestoreUnfinished
from organizations.inspecting import checking
from organizations.models import Organization, Restore, SpareDatabase
from organizations.postgres import aside
from organizations.restoring import files, making, switching
from organizations.tenancy import storage
from tests.conftest import Company, Superuser
from tests.organizations.helpers import as_role_of, kill_in_a_fork, kill_this_process

from .helpers import (
    add,
    can_log_in,
    contents,
    emails,
    execute_as_superuser,
    me,
    owner_of,
    row_of,
    the_restore,
    write_file,
)

State = Restore.State
Death = Callable[[pytest.MonkeyPatch], None]


def dies(owner: Any, name: str, *, after: bool, times: int = 1) -> Death:
    """The process dies before or after that call, the `times`-th."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        call, count = getattr(owner, name), [0]

        def dying(*arguments: Any, **named: Any) -> Any:
            count[0] += 1
            if count[0] == times and not after:
                kill_this_process()
            answer = call(*arguments, **named)
            if count[0] == times:
                kill_this_process()
            return answer

        monkeypatch.setattr(owner, name, dying)

    return patch


def dies_in_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """When everything is written, and nothing is committed."""
    commit = transaction.Atomic.__exit__

    def dying(self: Any, kind: Any, *error: Any) -> None:
        written = Restore.objects.filter(state=State.SWITCHING).exists()
        if kind is None and written and self.using == "default":
            kill_this_process()
        commit(self, kind, *error)

    monkeypatch.setattr(transaction.Atomic, "__exit__", dying)


BEFORE: dict[str, Death] = {
    "the dump is restored": dies(verifying, "restore", after=True),
    "it is compared": dies(verifying, "compare", after=True),
    "its files are unpacked": dies(files, "unpack", after=True),
    "its log-ins are ended": dies(making, "void_logins", after=True),
    "it is shut": dies(making, "regain", after=True, times=2),
    "the switch is written": dies_in_the_commit,
}
AFTER: dict[str, Death] = {
    "the switch is committed": dies(switching, "finish", after=False),
    "the old one is aside": dies(aside, "put_aside", after=True),
    "its files are exchanged": dies(files, "exchange", after=True),
    "the new one is open": dies(aside, "bring_back", after=True),
}


@pytest.fixture
def moved(made: Company, folder: Path) -> Company:
    """It has a backup, and another user and file since."""
    write_file(made, "plan.txt", "then")
    backups.back_up(made.organization)
    add(made, "late@test.com")
    write_file(made, "plan.txt", "now")
    return made


def test_before_the_commit_the_old_database_serves_on_and_the_new_one_is_dropped(
    moved: Company, superuser: Superuser
) -> None:
    for step, dying in BEFORE.items():
        with pytest.MonkeyPatch.context() as patched:
            dying(patched)
            kill_in_a_fork(lambda: lifecycle.restore_organization(row_of(moved)))
        assert emails(moved) == [moved.email, "late@test.com"], step
        (spare,) = SpareDatabase.objects.filter(fingerprint="")
        lifecycle.reconcile_organizations()
        assert owner_of(superuser, spare.database_name) is None, step
        assert not storage.folder_of(spare.key).exists(), step
        assert row_of(moved).place == moved.organization.place, step
        ended = the_restore(moved)
        assert (ended.state, ended.error_code) == (State.FAILED, "interrupted"), step
        assert emails(moved) == [moved.email, "late@test.com"], step
        assert contents(moved.organization.key) == {"plan.txt": "now"}, step
        ended.delete()


def test_after_the_commit_nobody_is_served_by_the_old_database_and_a_worker_opens_the_new_one(
    moved: Company, superuser: Superuser, client: Client
) -> None:
    for step, dying in AFTER.items():
        token, before = moved.token(client), row_of(moved)
        assert me(client, token) == 200, step  # Over a connection that is kept.
        with pytest.MonkeyPatch.context() as patched:
            dying(patched)
            kill_in_a_fork(lambda: lifecycle.restore_organization(row_of(moved)))
        assert the_restore(moved).state == State.SWITCHING, step
        now = row_of(moved)
        assert now.role_name != before.role_name, step
        (finding,) = checking.check([now.pk], fix=True)
        told = [each.what for each in finding.problems]
        assert told == ["a restore switched it, and did not end"], step
        is_open = step == "the new one is open"
        assert can_log_in(superuser, now.role_name) == is_open, step
        if step != "the switch is committed":
            assert me(client, token) == (401 if is_open else 503), step

        assert switching.finish_switches()[1] == [], step

        restore = the_restore(moved)
        assert restore.state == State.DONE, step
        assert emails(moved) == [moved.email], step
        assert me(client, token) == 401, step
        assert contents(before.key) == {"plan.txt": "then"}, step
        assert contents(restore.key) == {"plan.txt": "now"}, step
        assert owner_of(superuser, before.database_name) == ("orgmgmt", False), step
        assert not can_log_in(superuser, before.role_name), step
        assert not SpareDatabase.objects.filter(fingerprint="").exists(), step
        assert row_of(moved).pending_fence == "", step
        # For the next step.
        add(moved, "late@test.com")
        write_file(moved, "plan.txt", "now")


# An undo opens what comes back and puts it aside again, before it switches.
UNDO_BEFORE: dict[str, Death] = {
    "what comes back is open": dies(aside, "bring_back", after=True),
    "its log-ins are ended": dies(making, "void_all", after=True),
    "it is aside again": dies(aside, "put_aside", after=True),
    "the switch is written": dies_in_the_commit,
}
UNDO_AFTER: dict[str, Death] = {
    **AFTER,
    "the old one is aside": dies(aside, "put_aside", after=True, times=2),
    "the new one is open": dies(aside, "bring_back", after=True, times=2),
}


def test_an_undo_that_dies_is_done_or_not(moved: Company, superuser: Superuser) -> None:
    kept = lifecycle.restore_organization(row_of(moved))
    for step, dying in UNDO_BEFORE.items():
        die_in_an_undo(moved, dying)
        assert emails(moved) == [moved.email], step
        assert contents(moved.organization.key) == {"plan.txt": "then"}, step
        assert owner_of(superuser, kept.database_name) == ("orgmgmt", False), step
        assert not can_log_in(superuser, kept.role_name), step
    for step, dying in UNDO_AFTER.items():
        die_in_an_undo(moved, dying)
        assert emails(moved) == [moved.email, "late@test.com"], step
        assert contents(moved.organization.key) == {"plan.txt": "now"}, step
        lifecycle.restore_organization(row_of(moved))
    # Whatever died before, it can be undone.
    lifecycle.undo_restore(row_of(moved))
    assert emails(moved) == [moved.email, "late@test.com"]


def die_in_an_undo(company: Company, dying: Death) -> None:
    """And reconcile what is left."""
    with pytest.MonkeyPatch.context() as patched:
        dying(patched)
        kill_in_a_fork(lambda: lifecycle.undo_restore(row_of(company)))
    lifecycle.reconcile_organizations()


def test_nobody_is_answered_by_the_new_database_while_the_old_one_has_a_session(
    moved: Company, superuser: Superuser, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = moved.token(client)
    answers: list[int] = []
    put_aside = aside.put_aside

    def looking(*arguments: Any, **named: Any) -> None:
        with as_role_of(moved.organization) as old:
            answers.append(Client().get("/api/v1/me/", headers=_bearer(token)).status_code)
            put_aside(*arguments, **named)
            with pytest.raises(psycopg.OperationalError):
                old.execute("SELECT 1")
        monkeypatch.setattr(aside, "put_aside", put_aside)

    monkeypatch.setattr(aside, "put_aside", looking)
    lifecycle.restore_organization(row_of(moved))
    # By the old one over a connection of before, or by nobody, although the switch is committed.
    assert answers in ([200], [503])
    assert me(client, token) == 401


def test_whoever_was_logging_in_is_shut_out_of_the_old_database_before_the_new_one_is_open(
    moved: Company, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let in before the role was shut, and with no session yet when sessions are ended."""
    old, bring_back = moved.organization, aside.bring_back
    seen: list[str] = []
    with ExitStack() as scope:

        def log_in(seconds: float) -> None:
            for statement in (
                "GRANT CONNECT ON DATABASE {0} TO {1}",
                "ALTER DATABASE {0} ALLOW_CONNECTIONS true",
                "ALTER ROLE {1} LOGIN",
            ):
                execute_as_superuser(superuser, statement, old.database_name, old.role_name)
            session = scope.enter_context(as_role_of(old))
            for statement in (
                "ALTER ROLE {1} NOLOGIN",
                "ALTER DATABASE {0} ALLOW_CONNECTIONS false",
                "REVOKE CONNECT ON DATABASE {0} FROM {1}",
            ):
                execute_as_superuser(superuser, statement, old.database_name, old.role_name)
            session.execute("SELECT 1")
            seen.append("logged in")

            def looking(*arguments: Any, **named: Any) -> None:
                with pytest.raises(psycopg.OperationalError):
                    session.execute("SELECT 1")
                seen.append("shut out")
                bring_back(*arguments, **named)

            monkeypatch.setattr(aside, "bring_back", looking)

        monkeypatch.setattr(switching, "time", SimpleNamespace(sleep=log_in))
        lifecycle.restore_organization(row_of(moved))
    assert seen == ["logged in", "shut out"]
    assert emails(moved) == [moved.email]


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_suspension_meanwhile_waits_for_nothing_and_stays(
    moved: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    void = making.void_logins

    def then_suspend(*arguments: Any, **named: Any) -> None:
        void(*arguments, **named)
        lifecycle.suspend_organization(row_of(moved))

    monkeypatch.setattr(making, "void_logins", then_suspend)
    lifecycle.restore_organization(row_of(moved))
    assert row_of(moved).status == Organization.Status.SUSPENDED
    lifecycle.resume_organization(row_of(moved))
    assert emails(moved) == [moved.email]


def test_nobody_is_served_before_the_files_are_exchanged(
    moved: Company,
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    tmp_path: Path,
) -> None:
    def refuse(**keys: str) -> None:
        raise OSError(30, "Read-only file system")

    unfinished = [f"restores of organization {moved.organization.pk}"]
    with monkeypatch.context() as patched:
        patched.setattr(files, "exchange", refuse)
        with pytest.raises(RestoreUnfinished, match="Read-only file system. Workers"):
            lifecycle.restore_organization(row_of(moved))
        assert not can_log_in(superuser, row_of(moved).role_name)
        assert switching.finish_switches() == ([], unfinished)
    # A host without the files' disk leaves it to another.
    there, settings.MEDIA_ROOT = settings.MEDIA_ROOT, tmp_path / "not mounted"
    assert switching.finish_switches() == ([], unfinished)
    assert not can_log_in(superuser, row_of(moved).role_name)
    settings.MEDIA_ROOT = there
    # As an operator who tries again.
    lifecycle.restore_organization(row_of(moved))
    assert emails(moved) == [moved.email]
    assert contents(moved.organization.key) == {"plan.txt": "then"}
    assert Restore.objects.filter(organization_id=moved.organization.pk).count() == 2


def test_a_new_database_that_is_lost_before_it_is_open_keeps_nobody_from_another_restore(
    moved: Company, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    AFTER["its files are exchanged"](monkeypatch)
    kill_in_a_fork(lambda: lifecycle.restore_organization(row_of(moved)))
    monkeypatch.undo()
    execute_as_superuser(superuser, "DROP DATABASE {}", row_of(moved).database_name)

    assert switching.finish_switches()[1] == []

    restore = the_restore(moved)
    assert (restore.state, restore.error_code) == (State.DONE, "database_gone")
    lifecycle.undo_restore(row_of(moved))
    assert emails(moved) == [moved.email, "late@test.com"]
    assert contents(moved.organization.key) == {"plan.txt": "now"}


def test_one_switch_that_cannot_be_finished_keeps_no_other_waiting(
    made: Company, beta: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {beta.organization.key, made.organization.key}
    for company in (made, beta):
        row = row_of(company)
        Restore.objects.create(
            organization_id=row.pk, organization_key=row.key, state=State.SWITCHING
        )
    tried: list[str] = []

    def fail(session: object, row: Restore) -> None:
        tried.append(row.organization_key)
        raise DataError("what only this one's row does")

    monkeypatch.setattr(switching, "finish", fail)
    done, failed = switching.finish_switches()
    assert (set(tried), done, len(failed)) == (keys, [], 2)
    Restore.objects.filter(organization_key=beta.organization.key).delete()
