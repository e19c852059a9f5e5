"""A job runs for the organization that it names, and for no other."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError
from psycopg import sql

from accounts.models import User
from organizations import tenancy
from organizations.background import control
from organizations.errors import JobNotFound
from organizations.jobs.frame import Progress, lock_of, organization_job, platform_job
from organizations.models import Organization
from organizations.postgres.fence import fence
from organizations.recovery import credentials
from tests.conftest import Company, Superuser

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
def name_place(organization: Organization, progress: Progress) -> None:
    with tenancy.connection().cursor() as cursor:
        cursor.execute("SELECT current_database()")
        SEEN.append(cursor.fetchone()[0])


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


def test_a_job_after_a_new_password_logs_in_with_it(company: Callable[..., Company]) -> None:
    row = company().organization
    SEEN.clear()
    with task(look, name="look") as look_task:
        for _ in range(2):
            number = look_task.configure(lock=lock_of(row.pk)).defer(organization_id=row.pk)
            work()
            assert job(number).status == "succeeded", progress(number).error
            credentials.reset(row)


def test_a_connect_that_failed_leaves_no_old_password_behind(
    company: Callable[..., Company],
) -> None:
    """Also where nobody says from where to where."""
    made = company()
    with tenancy.override(made.tenant):
        User.objects.exists()
    credentials.reset(Organization.objects.get(pk=made.organization.pk))
    with pytest.raises(OperationalError), tenancy.override(made.tenant):
        User.objects.exists()
    with tenancy.override(made.tenant):
        assert User.objects.count() == 1


def test_a_job_goes_to_where_its_organization_has_moved(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    """Although the old database still lets it in."""
    row = company().organization
    names = [sql.Identifier("org_moved"), sql.Identifier(row.role_name)]
    superuser.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
    rows = Organization.objects.filter(pk=row.pk)
    SEEN.clear()
    try:
        with task(name_place, name="place") as place_task:
            for database in (row.database_name, "org_moved", row.database_name):
                rows.update(database_name=database)
                fence(row)
                place_task.configure(lock=lock_of(row.pk)).defer(organization_id=row.pk)
                work()
        assert [row.database_name, "org_moved", row.database_name] == SEEN
    finally:
        superuser.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(names[0]))


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
