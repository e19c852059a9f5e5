"""The job that migrates one organization, and what a suspension does to it."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import OperationalError, connections
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from organizations import lifecycle, tenancy
from organizations.background import enqueueing
from organizations.migrating import turn
from organizations.migrating.engine import Engine, Target
from organizations.migrating.turn import migrate_one
from organizations.models import Organization
from tests.conftest import Company, Superuser
from tests.organizations.helpers import wait_for
from tests.plugin import SERVER

from .helpers import job, progress, work

WAITS = """
SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND usename = %s
"""


def test_a_migration_that_a_suspension_ends_runs_again(
    company: Callable[..., Company], superuser: Superuser, settings: Settings
) -> None:
    settings.MIGRATION_TRIES = 1  # The engine itself would try again at once.
    made = company().organization
    rows = Organization.objects.filter(pk=made.pk)
    newest = rows.get().fingerprint
    migrate_one(rows.get(), Engine(Target("accounts", "0002")))
    assert rows.get().fingerprint != newest
    enqueueing.migrations(rows)
    number = ProcrastinateJob.objects.get(task_name="migrate_organization").pk

    def work_here() -> None:
        try:
            work()
        finally:
            connections.close_all()

    parameters = SERVER.superuser_parameters(made.database_name)
    with (
        ThreadPoolExecutor(1) as threads,
        psycopg.connect(**parameters) as holder,  # type: ignore[arg-type]
    ):
        holder.execute("LOCK TABLE django_migrations IN ACCESS EXCLUSIVE MODE")
        working = threads.submit(work_here)
        wait_for(superuser, WAITS, made.role_name)
        lifecycle.suspend_organization(rows.get())
        holder.rollback()
        working.result(30)
    assert (job(number).status, job(number).attempts) == ("todo", 1)
    assert progress(number).error.startswith("session_ended")
    ProcrastinateJob.objects.filter(pk=number).update(scheduled_at=None)
    work()
    assert job(number).status == "succeeded"
    assert (rows.get().fingerprint, rows.get().status) == (newest, "suspended")


def test_a_cut_connection_counts_as_an_ended_session_and_a_failed_statement_does_not(
    alpha: Company,
) -> None:
    """Over TLS the server's last words are often lost, and with them the SQLSTATE."""
    with tenancy.override(alpha.tenant), tenancy.connection().cursor() as cursor:
        with pytest.raises(Exception, match="nowhere") as refused:
            cursor.execute("SELECT nowhere")
        assert not turn._was_ended(refused.value)
        with socket.socket(fileno=socket.dup(cursor.connection.fileno())) as link:
            link.shutdown(socket.SHUT_RDWR)
        with pytest.raises(OperationalError) as cut:
            cursor.execute("SELECT 1")
    assert turn._was_ended(cut.value)
    with pytest.raises(psycopg.OperationalError) as never_opened:
        psycopg.connect(host="/nowhere", dbname="nowhere")
    assert not turn._was_ended(never_opened.value)
