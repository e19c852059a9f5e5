"""A mail that was asked for outlives whoever asked, and the master cannot tell whom it is for."""

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
    """A mail server that fails so, and says whom it would not take a mail for."""

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
    """What waits to be sent, oldest first."""
    return list(ProcrastinateJob.objects.filter(task_name="send_mail").order_by("id"))


def everything_in_the_master() -> str:
    """All of its rows, as text."""
    said = []
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT t::text FROM "{table}" AS t')  # noqa: S608 - a table's name
            said += [row for (row,) in cursor.fetchall()]
    return "\n".join(said)


# --- What waits ----------------------------------------------------------------------------------
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


def test_no_address_token_or_link_of_a_mail_lies_in_the_master_or_a_log(
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


def test_a_mail_is_sent_though_whoever_asked_is_gone_and_its_worker_was_killed(
    alpha: Company, member: User
) -> None:
    assert ask(alpha, member.email).status_code == 202
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")
    work()
    assert [message.to for message in mail.outbox] == [[member.email]]


# --- What may have changed until it is sent ------------------------------------------------------
def test_a_mail_for_an_address_that_has_changed_since_goes_to_nobody(
    alpha: Company, member: User
) -> None:
    """The change has asked for a mail of its own."""
    ask(alpha, member.email)
    send(client_of(alpha, member), "post", ASK_AGAIN)
    with tenancy.override(alpha.tenant):
        services.update_user(member, email=unique_email("moved"))
    assert sent() == []


@pytest.mark.parametrize("what", ["confirmed", "deactivated", "removed"])
def test_nor_for_somebody_who_is(alpha: Company, member: User, what: str) -> None:
    send(client_of(alpha, member), "post", ASK_AGAIN)
    if what == "confirmed":
        assert confirm(token_of(alpha, member)).status_code == 204
        (message,) = sent()
        assert message.subject.startswith("Your password")
        return
    with tenancy.override(alpha.tenant):
        if what == "removed":
            services.remove_user(User.objects.get(pk=member.pk))
        else:
            services.update_user(member, is_active=False)
    assert sent() == []


def test_nor_when_its_link_would_be_dead_by_now(
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
@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError,
        TimeoutError,
        smtplib.SMTPServerDisconnected,
        lambda said: smtplib.SMTPAuthenticationError(535, said),
        lambda said: smtplib.SMTPSenderRefused(550, said, "us@test.com"),
        lambda said: smtplib.SMTPRecipientsRefused({said: (451, b"later")}),
        lambda said: smtplib.SMTPDataError(452, said),
    ],
)
def test_a_mail_server_that_is_away_is_tried_until_the_mail_comes_too_late(
    error: Callable[[str], Exception],
    alpha: Company,
    member: User,
    failing: type[Failing],
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing.error, settings.JOB_TRIES = error, 1
    assert ask(alpha, member.email).status_code == 202
    for tries in (1, 2):
        work()
        (job,) = waiting()
        assert (job.status, job.attempts) == ("todo", tries)
        with connections["default"].cursor() as cursor:
            cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = now()")
    said = JobProgress.objects.get(job_id=job.pk).error
    assert said.startswith("mail_server_unavailable")
    logged = "".join(str(vars(record)) + caplog.text for record in caplog.records)
    assert member.email not in logged + said and "token=" not in logged + said
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    work()
    assert [message.to for message in mail.outbox] == [[member.email]]


@pytest.mark.parametrize(
    "error",
    [
        lambda said: smtplib.SMTPRecipientsRefused({said: (550, b"nobody here")}),
        lambda said: smtplib.SMTPDataError(554, said),
        ValueError,
    ],
)
def test_a_mail_that_is_refused_for_good_is_not_tried_again(
    error: Callable[[str], Exception],
    alpha: Company,
    member: User,
    failing: type[Failing],
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing.error = error
    assert ask(alpha, member.email).status_code == 202
    work()
    (job,) = waiting()
    assert (job.status, job.attempts) == ("failed", 1)
    said = JobProgress.objects.get(job_id=job.pk).error
    assert said.startswith("mail_refused")
    logged = "".join(str(vars(record)) + caplog.text for record in caplog.records)
    assert member.email not in logged + said and "token=" not in logged + said


def test_a_mail_that_fails_holds_up_no_other_job_of_its_organization(
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


def test_the_old_address_that_waits_outlives_the_change_of_a_key(
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


# --- News of a change ----------------------------------------------------------------------------
def test_the_old_address_is_told_of_a_new_one_and_learns_nothing_of_it(
    alpha: Company, member: User
) -> None:
    moved = unique_email("moved")
    change = {"email": moved, "current_password": PASSWORD}
    json_of(send(client_of(alpha, member), "patch", "/api/v1/me/", change))
    told = sent()[0]
    assert told.to == [member.email]
    assert told.subject == f"Your e-mail address for {alpha.name} was changed"
    assert moved not in str(told.body) and "http" not in str(told.body)


@pytest.mark.parametrize("by", ["oneself", "an admin", "a link"])
def test_a_new_password_is_told_of_whoever_has_set_it(
    alpha: Company, member: User, by_admin: Client, by: str
) -> None:
    if by == "oneself":
        body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        json_of(send(client_of(alpha, member), "post", "/api/v1/me/password/", body))
    elif by == "an admin":
        json_of(send(by_admin, "patch", f"/api/v1/users/{member.pk}/", {"password": NEW_PASSWORD}))
    else:
        assert confirm(token_of(alpha, member)).status_code == 204
    (told,) = sent()
    assert told.to == [member.email]
    assert told.subject == f"Your password for {alpha.name} was changed"
    assert "http://testserver/api/password-reset/\n" in str(told.body)
    assert NEW_PASSWORD not in str(told.body)


def test_what_a_confirmed_address_is_told_cannot_be_used_up_by_asking_for_links(
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


def test_strangers_are_told_of_few_changes_of_an_account_that_was_given_their_address(
    alpha: Company, by_admin: Client, member: User, throttles: Settings
) -> None:
    throttles.THROTTLE_MAIL_RECIPIENT = "2/hour"
    for number in range(4):
        body = {"password": f"{NEW_PASSWORD} {number}"}
        json_of(send(by_admin, "patch", f"/api/v1/users/{member.pk}/", body))
    assert len(sent()) == 2


def test_a_mail_that_cannot_be_asked_for_undoes_nothing(
    alpha: Company, by_admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("somebody@test.com")

    monkeypatch.setattr("organizations.background.mails.MailJobs.take", refuse)
    email = unique_email("added")
    json_of(send(by_admin, "post", "/api/v1/users/", {"email": email, "password": PASSWORD}), 201)
