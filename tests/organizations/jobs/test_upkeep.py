"""Clean-up jobs, `manage.py prune`, and commands that enqueue their work."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.background import enqueueing
from organizations.checks.jobs import check_workers
from organizations.models import Organization
from organizations.tenancy import registry
from tests.conftest import Company

from .helpers import job, work

DAY = timedelta(days=1)


def said(*words: str, **options: Any) -> str:
    out = StringIO()
    call_command(*words, stdout=out, **options)
    return out.getvalue()


def log_in_twice(company: Company) -> None:
    """One login that has expired, and one that has not."""
    with tenancy.override(company.tenant):
        LoginSession.objects.all().delete()
        user = User.objects.earliest("pk")
        for expires_at in (timezone.now() - DAY, timezone.now() + DAY):
            LoginSession.objects.create(
                user=user, kind=LoginSession.Kind.TOKEN, expires_at=expires_at
            )


def logins(company: Company) -> list[bool]:
    """Whether each login has expired."""
    with tenancy.override(company.tenant):
        now = timezone.now()
        return [each.expires_at < now for each in LoginSession.objects.order_by("expires_at")]


def test_the_nightly_job_cleans_the_master_and_each_organization(
    alpha: Company, beta: Company
) -> None:
    for company in (alpha, beta):
        log_in_twice(company)
    Session.objects.create(session_key="old", session_data="", expire_date=timezone.now() - DAY)
    enqueueing.platform_job("clean_up")
    work()
    assert logins(alpha) == logins(beta) == [False]
    assert not Session.objects.filter(session_key="old").exists()
    assert set(ProcrastinateJob.objects.values_list("status", flat=True)) == {"succeeded"}


def test_ended_jobs_can_be_read_for_a_while_and_then_go() -> None:
    old, recent = (enqueueing.platform_job(name) or 0 for name in ("reconcile", "refill_spares"))
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")
        cursor.execute("UPDATE procrastinate_jobs SET status = 'succeeded'")
        cursor.execute(
            "UPDATE procrastinate_events SET at = now() - interval '8 days' WHERE job_id = %s",
            [old],
        )
    enqueueing.platform_job("clean_up")
    work()
    left = set(ProcrastinateJob.objects.filter(pk__in=(old, recent)).values_list("pk", flat=True))
    assert left == {recent}


def test_one_that_waits_for_the_same_gets_no_second_job(alpha: Company, beta: Company) -> None:
    rows = Organization.objects.filter(pk__in=(alpha.organization.pk, beta.organization.pk))
    assert enqueueing.migrations(rows.filter(pk=alpha.organization.pk)) == 1
    assert enqueueing.migrations(rows) == 1
    assert enqueueing.clean_up(rows) == 2
    work()
    assert set(ProcrastinateJob.objects.values_list("status", flat=True)) == {"succeeded"}
    assert enqueueing.migrations(rows) == 2


def test_a_command_hands_its_work_to_the_workers() -> None:
    for command, task_name in (("refill_spares", "refill_spares"), ("reconcile_orgs", "reconcile")):
        assert said(command, enqueue=True).startswith("Job ")
        assert said(command, enqueue=True) == "A job is already waiting.\n"
        number = ProcrastinateJob.objects.get(task_name=task_name).pk
        work()
        assert job(number).status == "succeeded"


def test_prune_does_it_itself_or_hands_it_over(alpha: Company, beta: Company) -> None:
    for company in (alpha, beta):
        log_in_twice(company)
    assert said("prune", alpha.name, enqueue=True) == "1 jobs enqueued.\n"
    assert said("prune", beta.name, parallel=2) == "Expired rows deleted.\n"
    assert (logins(alpha), logins(beta)) == ([True, False], [False])
    work()
    assert logins(alpha) == [False]
    said("prune", enqueue=True)
    assert ProcrastinateJob.objects.filter(task_name="clean_up", status="todo").exists()


def test_prune_names_what_failed_and_continues_with_the_others(
    alpha: Company, beta: Company
) -> None:
    for company in (alpha, beta):
        log_in_twice(company)
    row = Organization.objects.filter(pk=alpha.organization.pk)
    row.update(database_name="org_that_never_was")
    registry.forget(alpha.tenant.alias)
    try:
        with pytest.raises(CommandError, match=r"1 failed.*manage.py prune 'Acme Corp'"):
            call_command("prune", stdout=StringIO(), stderr=StringIO())
    finally:
        row.update(database_name=alpha.organization.database_name)
        registry.forget(alpha.tenant.alias)
    assert (logins(alpha), logins(beta)) == ([True, False], [False])


def test_a_worker_that_cannot_work_says_why() -> None:
    with pytest.raises(CommandError, match="There is no queue letters. The queues are: sign-ups"):
        call_command("worker", queues="sign-ups,letters")
    with pytest.raises(CommandError, match="--concurrency must be 1 or more"):
        call_command("worker", concurrency=0)


def test_jobs_without_a_worker_are_warned_of() -> None:
    def said() -> list[str | None]:
        return [message.id for message in check_workers(databases=["default"])]

    enqueueing.platform_job("reconcile")
    assert said() == [], "a worker may be on its way"
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = now() - interval '1 h'")
        assert said() == ["organizations.W062"]
        cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
        assert said() == [], "one runs"
    assert list(check_workers()) == [], "no database may be asked"
