"""A job runs for the organization that it names, and for no other."""

from typing import Any

from accounts.models import User
from organizations import tenancy
from organizations.background import control
from organizations.errors import JobNotFound
from organizations.jobs.frame import Progress, lock_of, organization_job, platform_job
from organizations.models import Organization
from tests.conftest import Company

from .helpers import job, progress, task, work

SEEN: list[Any] = []


@organization_job
def look(organization: Organization, progress: Progress) -> None:
    SEEN.append((tenancy.get().organization_id, User.objects.get().email))


@platform_job
def look_at_nobody(progress: Progress) -> None:
    User.objects.count()


@platform_job
def whoever(progress: Progress) -> None:
    SEEN.append(tenancy.peek())


@organization_job
def leave_open(organization: Organization, progress: Progress) -> None:
    tenancy.override(organization.tenant).__enter__()
    raise ValueError("something secret")


def test_a_job_runs_inside_its_organization(alpha: Company, beta: Company) -> None:
    SEEN.clear()
    with task(look, name="look") as look_task:
        for company in (alpha, beta):
            pk = company.organization.pk
            look_task.configure(lock=lock_of(pk)).defer(organization_id=pk)
        work()
    assert sorted(SEEN) == sorted((c.organization.pk, c.email) for c in (alpha, beta))


def test_a_job_without_an_organization_meets_no_tenant_table() -> None:
    with task(look_at_nobody, name="nobody") as nobody:
        number = nobody.defer()
        work()
    assert job(number).status == "failed"
    assert progress(number).error.startswith("NoTenant")


def test_a_job_of_an_organization_that_names_none_is_refused(alpha: Company) -> None:
    SEEN.clear()
    with task(look, name="look") as look_task:
        number = look_task.defer()
        work()
    assert job(number).status == "failed"
    assert "names no organization" in progress(number).error
    assert not SEEN


def test_a_job_under_the_lock_of_another_organization_is_refused(
    alpha: Company, beta: Company
) -> None:
    SEEN.clear()
    with task(look, name="look") as look_task:
        under = look_task.configure(lock=lock_of(alpha.organization.pk))
        number = under.defer(organization_id=beta.organization.pk)
        work()
    assert job(number).status == "failed"
    assert "another organization than its lock" in progress(number).error
    assert not SEEN


def test_nothing_of_a_job_is_left_for_the_next(alpha: Company) -> None:
    SEEN.clear()
    pk = alpha.organization.pk
    with task(leave_open, name="open") as leaves, task(whoever, name="whoever") as asks:
        number = leaves.configure(lock=lock_of(pk)).defer(organization_id=pk)
        for _ in range(4):
            asks.defer()
        work()
    assert SEEN == [None] * 4
    assert progress(number).error == "ValueError. See the log."


def test_a_job_of_an_organization_that_is_gone_does_nothing() -> None:
    SEEN.clear()
    with task(look, name="look") as look_task:
        number = look_task.configure(lock=lock_of(10**9)).defer(organization_id=10**9)
        work()
    assert job(number).status == "succeeded"
    assert not SEEN


def test_a_job_of_alpha_is_invisible_in_beta(alpha: Company, beta: Company) -> None:
    with task(look, name="look") as look_task:
        pk = alpha.organization.pk
        number = look_task.configure(lock=lock_of(pk)).defer(organization_id=pk)
        with tenancy.override(beta.tenant):
            assert not control.visible().exists()
            for act in (control.cancel, control.retry):
                try:
                    act(number)
                except JobNotFound:
                    continue
                raise AssertionError(act)
        assert job(number).status == "todo"
        with tenancy.override(alpha.tenant):
            assert [each.pk for each in control.visible()] == [number]
            control.cancel(number)
        assert job(number).status == "cancelled"
