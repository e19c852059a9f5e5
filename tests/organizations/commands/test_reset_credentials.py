"""`manage.py reset_credentials`: new passwords after a lost key, and a warning of wrong keys."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psycopg
import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client
from pytest_django import Settings

from organizations import lifecycle
from organizations.checks.server import check_server
from organizations.inspecting import checking
from organizations.jobs.models import PendingSignUp
from organizations.models import Organization
from organizations.recovery import credentials
from organizations.secrets import seal
from tests.conftest import Company
from tests.organizations.helpers import as_role_of, begin_deletion


@pytest.fixture
def lost(company: Callable[..., Company], settings: Settings) -> Company:
    """An organization whose stored secrets no key opens."""
    made = company()
    kept = settings.CREDENTIAL_KEYS
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    sealed = {"sealed_password": seal("whatever"), "sealed_audit_key": seal("ab" * 32)}
    settings.CREDENTIAL_KEYS = kept
    Organization.objects.filter(pk=made.organization.pk).update(**sealed)
    return made


def test_wrong_keys_are_told_by_check_and_check_orgs(lost: Company) -> None:
    told = check_server(databases=["default"])
    (error,) = [each for each in told if each.id == "organizations.E008"]
    assert lost.name in error.msg and "reset_credentials" in str(error.hint)
    (finding,) = checking.check([lost.organization.pk])
    (problem,) = finding.problems
    assert "can decrypt the stored password" in problem.what
    assert "reset_credentials" in problem.remedy


def test_a_process_with_other_keys_is_not_ready(
    alpha: Company, client: Client, settings: Settings
) -> None:
    assert client.get("/ready").json() == {"status": "ready"}
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "credential_unreadable")
    assert client.get("/health").status_code == 200, "it lives"


def test_only_unreadable_passwords_are_replaced(
    lost: Company, alpha: Company, client: Client
) -> None:
    before = Organization.objects.get(pk=alpha.organization.pk).sealed_password
    waits = PendingSignUp.objects.create(
        token_digest="lost", name="Lost", name_digest="lost", sealed_password_hash="unreadable"
    )
    call_command("reset_credentials")
    assert lost.token(client)
    waits.refresh_from_db()
    assert (waits.state, waits.sealed_password_hash) == ("failed", "")
    assert Organization.objects.get(pk=alpha.organization.pk).sealed_password == before
    assert credentials.unreadable() == []
    waits.delete()


def test_one_that_is_kept_aside_is_reset_too_and_others_are_not_said_to_be(
    lost: Company, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.ORG_DELETION_GRACE_DAYS = 30
    rows = Organization.objects.filter(pk=lost.organization.pk)
    lifecycle.delete_organization(rows.get())
    assert credentials.reset(rows.get())
    assert credentials.unreadable() == []
    with pytest.raises(psycopg.OperationalError), as_role_of(rows.get()):
        pytest.fail("it logs in")
    begin_deletion(rows.get())
    rows.update(sealed_password="unreadable")
    capsys.readouterr()
    call_command("reset_credentials")
    said = capsys.readouterr().out
    assert f"{lost.name}: deleting: nothing to reset" in said and "\n0 reset;" in said


def test_a_named_one_gets_another_and_its_old_sessions_end(
    company: Callable[..., Company], client: Client
) -> None:
    made = company()
    with as_role_of(made.organization) as opened:
        call_command("reset_credentials", made.name)
        with pytest.raises(psycopg.OperationalError):
            opened.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError), as_role_of(made.organization):
        pytest.fail("the old password is good still")
    assert made.token(client)


def test_what_was_opened_with_the_new_password_goes_on(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests connect again at once, and the old password's sessions are still looked for."""
    rows = Organization.objects.filter(pk=company().organization.pk)
    before = rows.get()
    is_connected, is_over = threading.Event(), threading.Event()
    until_connected = SimpleNamespace(sleep=lambda seconds: is_connected.wait(20))
    monkeypatch.setattr(credentials, "time", until_connected)

    def connect_anew() -> object:
        try:
            while (now := rows.get()).sealed_password == before.sealed_password:
                time.sleep(0.005)
            with as_role_of(now) as session:
                is_connected.set()
                is_over.wait(20)
                return session.execute("SELECT 'goes on'").fetchone()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as threads, as_role_of(before) as old:
        connecting = threads.submit(connect_anew)
        credentials.reset(rows.get())
        assert is_connected.is_set()
        is_over.set()
        assert connecting.result(20) == ("goes on",)
        with pytest.raises(psycopg.OperationalError):
            old.execute("SELECT 1")


def test_an_unknown_name_ends_with_a_sentence() -> None:
    with pytest.raises(CommandError, match="There is no organization called"):
        call_command("reset_credentials", "Nobody Ltd")
