"""Mails behind the answer: bounded, out of the way of whoever asks, and quiet about whom."""

import os
import threading
from collections.abc import Callable

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connections
from pytest_django import Settings

from accounts import outbox
from accounts.models import User
from accounts.outbox import Outbox
from organizations import tenancy
from organizations.errors import OutboxFull
from tests.conftest import Company

from .link_helpers import ask

_HERE = f"{__name__}."
gate = threading.Event()


class Hanging(BaseEmailBackend):
    """A mail server that does not answer until the gate opens."""

    def send_messages(self, messages: object) -> int:
        assert gate.wait(30)
        return 1


class Refusing(BaseEmailBackend):
    """One that refuses, and says whom in its words."""

    def send_messages(self, messages: list[EmailMessage]) -> int:  # type: ignore[override]
        raise OSError(f"refused: {messages[0].to} {messages[0].body}")


def a_mail() -> EmailMessage:
    return EmailMessage("subject", "body", to=["somebody@test.com"])


@pytest.fixture
def opened() -> threading.Event:
    gate.clear()
    return gate


def test_what_is_asked_for_is_sent_in_the_order_of_asking() -> None:
    box = Outbox()
    for number in range(5):
        message = EmailMessage(f"mail {number}", "", to=["a@test.com"])
        box.add(lambda message=message: message)  # type: ignore[misc]
    assert box.flush(timeout_seconds=30)
    assert [message.subject for message in mail.outbox] == [f"mail {n}" for n in range(5)]


def test_where_as_many_wait_as_may_the_next_is_refused(opened: threading.Event) -> None:
    box, begun = Outbox(waiting_at_most=2), threading.Event()

    def wait() -> None:
        begun.set()
        assert opened.wait(30)

    box.add(wait)
    assert begun.wait(30)
    box.add(lambda: None)
    box.add(lambda: None)
    with pytest.raises(OutboxFull, match="Try again shortly"):
        box.add(lambda: None)
    assert not box.flush(timeout_seconds=0)
    opened.set()
    assert box.flush(timeout_seconds=30)
    box.add(lambda: None)
    assert box.flush(timeout_seconds=30)


def test_a_mail_server_that_hangs_holds_up_nobody_who_asks(
    opened: threading.Event, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether an address exists would show in how soon there is room again."""
    settings.EMAIL_BACKEND = f"{_HERE}Hanging"
    box, written = Outbox(waiting_at_most=3), threading.Semaphore(0)

    def write() -> EmailMessage:
        written.release()
        return a_mail()

    for _ in range(10):
        box.add(write)
        assert written.acquire(timeout=30), "asking waits for sending"
    opened.set()
    assert box.flush(timeout_seconds=30)
    assert "mail dropped: too many wait to be sent" in caplog.text


def test_a_mail_that_fails_is_logged_without_address_and_link(
    alpha: Company, member: User, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_BACKEND = f"{_HERE}Refusing"
    assert ask(alpha, member.email).status_code == 202
    assert outbox.get().flush(timeout_seconds=30)
    (record,) = (record for record in caplog.records if record.message == "mail not sent")
    assert vars(record)["error"] == "OSError"
    assert "test_outbox.py" in vars(record)["where"]
    assert record.exc_info is None
    everything = "".join(str(vars(record)) for record in caplog.records)
    assert member.email not in everything and "token=" not in everything


def test_one_that_cannot_be_written_keeps_the_next_from_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = Outbox()

    def fail() -> None:
        raise KeyError("secret@test.com")

    box.add(fail)
    box.add(a_mail)
    assert box.flush(timeout_seconds=30)
    assert len(mail.outbox) == 1
    assert "mail not written" in caplog.text and "secret@" not in caplog.text


def test_the_thread_keeps_neither_an_organization_nor_a_connection(alpha: Company) -> None:
    box, seen = Outbox(), list[object]()

    def enter() -> None:
        tenancy.override(alpha.tenant).__enter__()
        assert User.objects.exists()

    def look() -> None:
        seen.append(tenancy.peek())
        seen.extend(each.connection for each in connections.all(initialized_only=True))

    for work in (enter, look):
        box.add(work)
        assert box.flush(timeout_seconds=30)
    assert seen[0] is None
    assert not any(seen), "a connection is left open"


def test_a_mail_is_written_some_time_after_the_answer_unless_the_process_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "DELAY_SECONDS", (3600.0, 3600.0))
    box = Outbox()
    box.add(a_mail)
    assert not box.flush(timeout_seconds=0.2)
    box.hurry()
    assert box.flush(timeout_seconds=30)
    assert len(mail.outbox) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_that_was_forked_has_an_outbox_of_its_own() -> None:
    """gunicorn forks; the threads of the parent are not there in the child."""
    parent: Callable[[], Outbox] = outbox.get
    parent().add(lambda: None)
    assert parent().flush(timeout_seconds=30)
    child = os.fork()
    if child == 0:
        own = outbox.get()
        own.add(lambda: None)
        os._exit(0 if own.flush(timeout_seconds=30) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
