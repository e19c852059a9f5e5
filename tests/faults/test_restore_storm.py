"""Tests of `make restore-storm`: a small one, and it detects the faults that it counts."""

import threading
import time
from contextlib import suppress

import pytest
from django.test import Client

from organizations import lifecycle
from organizations.backups import making
from tests.conftest import PASSWORD, Company
from tests.faults.restore_storm import Outcome, Write, judge
from tests.organizations.helpers import together
from tests.organizations.restoring.conftest import folder, made
from tests.organizations.restoring.helpers import emails, row_of

__all__ = ["folder", "made"]


def test_requests_while_an_organization_is_restored_lose_nothing(made: Company) -> None:
    outcome, writes, lock = Outcome(), list[Write](), threading.Lock()
    over = threading.Event()

    def write(thread: int) -> None:
        client, number, token = Client(), 0, made.token(Client())
        while not over.is_set():
            number, began = number + 1, time.monotonic()
            email = f"user{thread}-{number}@test.com"
            answer = client.post(
                "/api/v1/users/",
                {"email": email, "password": PASSWORD},
                content_type="application/json",
                headers={"Authorization": f"Bearer {token}"},
            )
            with lock:
                outcome.answers[answer.status_code] += 1
                if answer.status_code == 201:
                    writes.append(Write(email, began, time.monotonic()))
            if answer.status_code == 401:
                with suppress(AssertionError):  # 503: nobody is served at this moment.
                    token = made.token(client)

    def let_them_write(more: int = 6) -> None:
        enough, deadline = len(writes) + more, time.monotonic() + 30
        while len(writes) < enough:
            assert time.monotonic() < deadline, "nothing is written any more"
            time.sleep(0.01)

    def act() -> tuple[float, float]:
        try:
            let_them_write()
            backed_up = time.monotonic()
            making.back_up(made.organization)
            let_them_write()
            lifecycle.restore_organization(row_of(made))
            restored = time.monotonic()
            let_them_write()
            return backed_up, restored
        finally:
            over.set()

    moments, *ends = together(act, lambda: write(1), lambda: write(2))
    assert isinstance(moments, tuple) and ends == [None, None], (moments, ends)
    live = set(emails(made))
    lifecycle.undo_restore(row_of(made))
    judge(outcome, writes, live, set(emails(made)), *moments)
    assert outcome.faults == []
    assert set(outcome.answers) <= {201, 401, 503}, outcome.answers
    # The log-ins of before are void, and new ones write into the new database.
    assert outcome.answers[401] and outcome.live and outcome.kept, outcome


@pytest.mark.pure
def test_what_is_lost_or_answered_by_both_is_a_fault() -> None:
    """The backup begins at 10, the restore has ended at 20."""
    writes = [
        Write("both", 1, 2),
        Write("old", 11, 12),
        Write("new", 21, 22),
        Write("before, in one alone", 3, 4),
        Write("late, in the old one", 23, 24),
        Write("nowhere", 13, 14),
    ]
    outcome = Outcome()
    live, kept = {"both", "new"}, {"both", "old", "before, in one alone", "late, in the old one"}
    judge(outcome, writes, live, kept, backed_up=10, restored=20)
    assert outcome.faults == [
        "before, in one alone of before the backup is not in both",
        "nowhere is lost",
        "late, in the old one of after the restore is not there",
        "late, in the old one was answered by the old database after the new",
    ]
    assert (outcome.acknowledged, outcome.kept, outcome.live, outcome.gap) == (6, 3, 1, 8)
