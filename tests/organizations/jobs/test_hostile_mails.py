"""Jobs that hang in one organization's database leave the worker's other threads free."""

import pytest
from django.core import mail
from pytest_django import Settings

from organizations.jobs.models import JobProgress
from organizations.tenancy import guard
from tests.accounts.link_helpers import ask
from tests.conftest import Company
from tests.organizations.tenancy.hostile import replaced

from .helpers import work


def test_mails_of_a_users_table_that_sleeps_hold_one_of_two_threads(
    alpha: Company, beta: Company, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A statement counts as stuck after 0.3 s; the others must be fetched between that and its end.
    settings.STATEMENT_TIMEOUT_SECONDS = 0.8
    monkeypatch.setattr(guard, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(guard, "CANCEL_SECONDS", 0.3)
    for company in (*[alpha] * 4, beta):
        assert ask(company, company.email).status_code == 202
    with replaced(alpha, "users", "SELECT * FROM kept WHERE forever()"):
        work(concurrency=2)
    assert [message.to for message in mail.outbox] == [[beta.email]]
    errors = JobProgress.objects.filter(organization_id=alpha.tenant.organization_id)
    said = [each.partition(" ")[0] for each in errors.values_list("error", flat=True)]
    assert set(said) == {"OperationalError", "OrganizationCrowded."}
    # One that is tried again once the first has ended may hang in its turn.
    assert said.count("OrganizationCrowded.") >= 2, "they gave their thread back at once"
