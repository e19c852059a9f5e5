"""Jobs are enqueued even if an organization fills the server's notification queue."""

from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from organizations.background import control, enqueueing
from tests.accounts.link_helpers import ask, sent
from tests.conftest import Company, Superuser
from tests.organizations.helpers import as_role_of

from .helpers import job, work


@pytest.fixture
def full_queue(alpha: Company, superuser: Superuser) -> Iterator[None]:
    """As alpha's role, one session listens and stalls while another sends notifications."""
    with as_role_of(alpha.organization) as listening, as_role_of(alpha.organization) as telling:
        listening.execute("LISTEN noise")
        listening.autocommit = False
        listening.execute("SELECT 1")
        noise = "SELECT pg_notify('noise', repeat('x', 7000) || n) FROM generate_series(1, 10) AS n"
        with suppress(psycopg.OperationalError, psycopg.errors.ProgramLimitExceeded):
            while True:
                telling.execute(noise)
        (used,) = superuser.execute("SELECT pg_notification_queue_usage()").fetchone() or (0,)
        assert float(str(used)) > 0.5, "the queue is not full"
        yield


@pytest.mark.usefixtures("full_queue")
def test_jobs_work_while_one_organization_fills_the_notification_queue(
    beta: Company,
) -> None:
    assert ask(beta, beta.email).status_code == 202
    number = enqueueing.platform_job("clean_up")
    assert number is not None
    control.cancel(number)
    assert [message.to for message in sent()] == [[beta.email]]
    work()
    assert job(number).status == "cancelled"
