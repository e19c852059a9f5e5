"""Mails as background jobs: they outlive the request, and the master stores no address."""

import smtplib
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from cryptography.fernet import Fernet
from django.core import mail
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.management import call_command
from django.db import connections
from django.test import Client, override_settings
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from accounts import services
from accounts.models import User
from organizations import lifecycle as organization_services
from organizations import tenancy
from organizations.background import enqueueing
from organizations.background.mails import forget_addresses
from organizations.jobs.models import JobProgress, SealedAddress
from organizations.models import Organization
from tests.conftest import PASSWORD, Company
from tests.organizations.jobs.helpers import work

from .helpers import client_of, json_of, send, unique_email
from .link_helpers import ASK_AGAIN, NEW_PASSWORD, ask, confirm, sent, token_in, token_of


class Failing(BaseEmailBackend):
    """A mail server that fails with an error that names the recipient."""

    error: ClassVar[Callable[[str], Exception]]

    def send_messages(self, messages: list[EmailMessage]) -> int:  # type: ignore[override]
        raise Failing.error(f"{messages[0].to} {messages[0].body}")


@pytest.fixture
def failing(settings: Settings) -> Iterator[type[Failing]]:
    before = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = f"{__name__}.Failing"
    yield Failing
    settings.EMAIL_BACKEND = before


def waiting() -> list[Any]:
    """Mail jobs that wait, oldest first."""
    return list(ProcrastinateJob.objects.filter(task_name="send_mail").order_by("id"))


def everything_in_the_master() -> str:
    """All rows of the master, as text."""
    said = []
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT t::text FROM "{table}" AS t')  # noqa: S608 - a table's name
            said += [row for (row,) in cursor.fetchall()]
    return "\n".join(said)


# --- What is stored -------------------------------------------------------------------------------
def test_a_reset_waits_as_the_same_job_whether_or_not_the_address_exists(
    alpha: Company, member: User, person: Callable[..., User]
) -> None:
    gone = person()
    with tenancy.override(alpha.tenant):
        services.update_user(gone, is_active=False)
    for email in (member.email, gone.email, "nobody@x.example", "no address"):
        assert ask(alpha, email).status_code == 202
    jobs = waiting()
    assert [job.args["user_id"] for job in jobs] == [member.pk, gone.pk, 0, 0]
    kept = {"kind", "organization_id", "user_id", "email_version", "host_url", "asked_at", "by"}
    for job in jobs:
        assert set(job.args) == kept
        assert set(job.args["by"]) == {"actor", "actor_id", "request_id"}
        assert (job.lock, job.queueing_lock, job.status) == (None, None, "todo")
    assert [message.to for message in sent()] == [[member.email]]
    assert {job.status for job in waiting()} == {"succeeded"}


def test_the_master_and_the_logs_hold_no_address_token_or_link_of_a_mail(
    alpha: Company, member: User, by_admin: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    added, moved = unique_email("added"), unique_email("moved")
    ask(alpha, member.email)
    send(client_of(alpha, member), "post", ASK_AGAIN)
    json_of(send(by_admin, "post", "/api/v1/users/", {"email": added, "password": PASSWORD}), 201)
    body = {"email": moved, "password": NEW_PASSWORD}
    json_of(send(by_admin, "patch", f"/api/v1/users/{member.pk}/", body))
    assert SealedAddress.objects.count() == 2
    before = everything_in_the_master()
    tokens = [token_in(message) for message in sent() if "token=" in str(message.body)]
    assert len(tokens) == 2
    assert not SealedAddress.objects.exists()
    after = everything_in_the_master()
    logged = "".join(str(vars(record)) for record in caplog.records)
    for secret in (member.email, added, moved, *tokens):
        assert secret not in before + after + logged


def test_a_mail_whose_worker_was_killed_is_sent_by_the_next(alpha: Company, member: User) -> None:
    assert ask(alpha, member.email).status_code == 202
    with connections["default"].cursor() as cursor:
        # Not those that tests before have left: two with one lock are never at work.
        cursor.execute(
            "UPDATE procrastinate_jobs SET status = 'doing' WHERE task_name = 'send_mail'"
        )
    work()
    assert [message.to for message in mail.outbox] == [[member.email]]


# --- Changes before it is sent ---------------------------------------------------
def test_a_mail_for_an_address_that_has_changed_since_is_not_sent(
    alpha: Company, member: User
) -> None:
    """The change has asked for a mail of its own."""
    ask(alpha, member.email)
    send(client_of(alpha, member), "post", ASK_AGAIN)
    with tenancy.override(alpha.tenant):
        services.update_user(member, email=unique_email("moved"))
    assert sent() == []


def test_no_link_goes_to_a_confirmed_address_or_a_removed_user(
    alpha: Company, person: Callable[..., User]
) -> None:
    confirmed, deactivated, removed = person(), person(), person()
    for user in (confirmed, deactivated, removed):
        send(client_of(alpha, user), "post", ASK_AGAIN)
    assert confirm(token_of(alpha, confirmed)).status_code == 204
    with tenancy.override(alpha.tenant):
        services.update_user(deactivated, is_active=False)
        services.remove_user(User.objects.get(pk=removed.pk))
    (message,) = sent()
    assert message.subject.startswith("Your password")


def test_a_link_that_would_have_expired_is_not_sent(
    alpha: Company, member: User, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.PASSWORD_RESET_MINUTES = 1
    ask(alpha, member.email)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 61)
    assert sent() == []
    assert {job.status for job in waiting()} == {"succeeded"}


def test_a_job_of_an_organization_that_is_gone_sends_nothing(
    company: Callable[..., Company],
) -> None:
    made = company()
    assert ask(made, made.email).status_code == 202
    organization_services.delete_organization(made.organization)
    assert sent() == []
    assert {job.status for job in waiting()} == {"succeeded"}


# --- The mail server -----------------------------------------------------------------------------
AWAY: list[Callable[[str], Exception]] = [
    ConnectionRefusedError,
    TimeoutError,
    smtplib.SMTPServerDisconnected,
    lambda said: smtplib.SMTPAuthenticationError(535, said),
    lambda said: smtplib.SMTPSenderRefused(550, said.encode(), "us@test.com"),
    lambda said: smtplib.SMTPRecipientsRefused({said: (451, b"later")}),
    lambda said: smtplib.SMTPDataError(452, said),
]
FOR_GOOD: list[Callable[[str], Exception]] = [
    lambda said: smtplib.SMTPRecipientsRefused({said: (550, b"nobody here")}),
    lambda said: smtplib.SMTPDataError(554, said),
    ValueError,
]


def test_an_unreachable_mail_server_is_retried_until_the_mail_expires(
    alpha: Company,
    member: User,
    failing: type[Failing],
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.JOB_TRIES = 1
    assert ask(alpha, member.email).status_code == 202
    for tries, error in enumerate(AWAY, start=1):
        failing.error = error
        work()
        (job,) = waiting()
        assert (job.status, job.attempts) == ("todo", tries), error("")
        assert JobProgress.objects.get(job_id=job.pk).error.startswith("mail_server_unavailable")
        assert_names_nobody(job, member, caplog)
        with connections["default"].cursor() as cursor:
            cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = now()")
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    work()
    assert [message.to for message in mail.outbox] == [[member.email]]


def test_a_mail_that_is_refused_for_good_is_not_retried(
    alpha: Company, member: User, failing: type[Failing], caplog: pytest.LogCaptureFixture
) -> None:
    for error in FOR_GOOD:
        failing.error = error
        assert ask(alpha, member.email).status_code == 202
        work()
        job = waiting()[-1]
        assert (job.status, job.attempts) == ("failed", 1), error("")
        assert JobProgress.objects.get(job_id=job.pk).error.startswith("mail_refused")
        assert_names_nobody(job, member, caplog)


def assert_names_nobody(job: Any, user: User, caplog: pytest.LogCaptureFixture) -> None:
    """The reports of a failure have no address and no link."""
    logged = "".join(str(vars(record)) + caplog.text for record in caplog.records)
    said = logged + JobProgress.objects.get(job_id=job.pk).error
    assert user.email not in said and "token=" not in said


def test_a_mail_that_fails_delays_no_other_job_of_its_organization(
    alpha: Company, member: User, failing: type[Failing]
) -> None:
    failing.error = ConnectionRefusedError
    ask(alpha, member.email)
    work()
    enqueueing.clean_up(Organization.objects.filter(pk=alpha.organization.pk))
    work()
    assert [job.status for job in waiting()] == ["todo"]
    cleaned = ProcrastinateJob.objects.filter(task_name="clean_up_organization")
    assert cleaned.get().status == "succeeded"
    with connections["default"].cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


def test_the_address_of_a_mail_that_was_never_sent_is_not_kept(
    alpha: Company, by_admin: Client, member: User
) -> None:
    change = {"email": unique_email("moved")}
    json_of(send(by_admin, "patch", f"/api/v1/users/{member.pk}/", change))
    forget_addresses()
    assert SealedAddress.objects.count() == 1, "it waits"
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'cancelled'")
    forget_addresses()
    assert not SealedAddress.objects.exists()


def test_the_stored_old_address_outlives_a_key_rotation(
    alpha: Company, by_admin: Client, member: User, settings: Settings
) -> None:
    change = {"email": unique_email("moved")}
    json_of(send(by_admin, "patch", f"/api/v1/users/{member.pk}/", change))
    (old,) = settings.CREDENTIAL_KEYS
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode(), old]
    try:
        call_command("reseal_credentials")
        with override_settings(CREDENTIAL_KEYS=settings.CREDENTIAL_KEYS[:1]):
            assert sent()[0].to == [member.email]
    finally:
        settings.CREDENTIAL_KEYS.reverse()
        call_command("reseal_credentials")


# --- Notices of a change -------------------------------------------------------------------------
def test_the_old_address_hears_of_the_change_but_not_the_new_address(
    alpha: Company, member: User
) -> None:
    moved = unique_email("moved")
    change = {"email": moved, "current_password": PASSWORD}
    json_of(send(client_of(alpha, member), "patch", "/api/v1/me/", change))
    told = sent()[0]
    assert told.to == [member.email]
    assert told.subject == f"Your e-mail address for {alpha.name} was changed"
    assert moved not in str(told.body) and "http" not in str(told.body)


def test_a_new_password_is_announced_by_mail_whoever_set_it(
    alpha: Company, person: Callable[..., User], by_admin: Client
) -> None:
    own, by_the_admin, by_link = person(), person(), person()
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    json_of(send(client_of(alpha, own), "post", "/api/v1/me/password/", body))
    path = f"/api/v1/users/{by_the_admin.pk}/"
    json_of(send(by_admin, "patch", path, {"password": NEW_PASSWORD}))
    assert confirm(token_of(alpha, by_link)).status_code == 204
    messages = sent()
    told = sorted(address for message in messages for address in message.to)
    assert told == sorted(user.email for user in (own, by_the_admin, by_link))
    for message in messages:
        assert message.subject == f"Your password for {alpha.name} was changed"
        assert "http://testserver/api/password-reset/\n" in str(message.body)
        assert NEW_PASSWORD not in str(message.body)


def test_asking_for_links_leaves_notices_to_a_confirmed_address(
    alpha: Company, member: User, throttles: Settings
) -> None:
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=member.pk).update(email_verified_at="2026-01-01T00:00Z")
    throttles.THROTTLE_MAIL_RECIPIENT = throttles.THROTTLE_MAIL_ORGANIZATION = "1/hour"
    assert ask(alpha, member.email).status_code == 202
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    json_of(send(client_of(alpha, member), "post", "/api/v1/me/password/", body))
    assert [message.subject for message in sent()] == [
        f"Set a new password for {alpha.name}",
        f"Your password for {alpha.name} was changed",
    ]


def test_notices_to_an_unconfirmed_address_are_limited(
    alpha: Company, by_admin: Client, member: User, throttles: Settings
) -> None:
    throttles.THROTTLE_MAIL_RECIPIENT = "2/hour"
    for number in range(4):
        body = {"password": f"{NEW_PASSWORD} {number}"}
        json_of(send(by_admin, "patch", f"/api/v1/users/{member.pk}/", body))
    assert len(sent()) == 2


def test_a_mail_that_cannot_be_queued_undoes_nothing(
    alpha: Company, by_admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("somebody@test.com")

    monkeypatch.setattr("organizations.background.mails.MailJobs.take", refuse)
    email = unique_email("added")
    json_of(send(by_admin, "post", "/api/v1/users/", {"email": email, "password": PASSWORD}), 201)
