"""A worker that is killed (SIGKILL) at a given statement of a job.

    python -m tests.faults.dying_worker migrate_organization 3 7

Asks for a job first, the third of its kind, with something for it to do; does what the worker
before it left half done; and dies at the job's seventh statement, or, if the job has fewer,
after its end and before that can be written. At statement 0 it lives, and prints how many
there were. No product code knows of this.
"""

# ruff: noqa: E402 - Django has to be ready first
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")
django.setup()

import psycopg
from django.contrib.sessions.models import Session
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.worker import Worker

from accounts.models import LoginSession, User
from organizations import lifecycle, tenancy
from organizations.background import enqueueing, sign_ups
from organizations.background.worker import JobWorker
from organizations.deleting import delete
from organizations.jobs import frame
from organizations.models import Organization, SpareDatabase
from organizations.postgres.sessions import open_session
from organizations.validators import SignUp
from tests.faults.job_storm import EMAIL, MIGRATION_BEFORE, PASSWORD, name_of

_SILENT = "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'"
_LONG_AGO = timedelta(days=1)


def _one(number: int) -> Any:
    """The next organization, in turn."""
    usable = Organization.objects.usable().order_by("pk")
    return usable.filter(pk=usable[number % usable.count()].pk)


def sign_up(number: int) -> None:
    sign_ups.accept(SignUp(name_of(number), EMAIL, PASSWORD), base_url="http://127.0.0.1")


def migrate_organization(number: int) -> None:
    rows = _one(number)
    tenant = rows.get().tenant
    with tenancy.override(tenant):
        MigrationExecutor(connections[tenant.alias]).migrate([MIGRATION_BEFORE])
    enqueueing.migrations(rows)


def clean_up_organization(number: int) -> None:
    rows = _one(number)
    with tenancy.override(rows.get().tenant):
        user = User.objects.earliest("pk")
        for _ in range(3):
            LoginSession.objects.create(
                user=user,
                kind=LoginSession.Kind.TOKEN,
                expires_at=timezone.now() - _LONG_AGO,
            )
    enqueueing.clean_up(rows)


def refill_spares(number: int) -> None:
    SpareDatabase.objects.update(ready=False)  # To be dropped, and another to be made.
    enqueueing.platform_job("refill_spares")


def reconcile(number: int) -> None:
    made = lifecycle.create_organization(name=f"Doomed {number}", email=EMAIL, password=PASSWORD)
    with open_session() as session:
        delete._begin_drop(session, made.organization)
    enqueueing.platform_job("reconcile")


def clean_up(number: int) -> None:
    Session.objects.create(
        session_key=f"storm{number}", session_data="", expire_date=timezone.now() - _LONG_AGO
    )
    enqueueing.platform_job("clean_up")


ASK: dict[str, Callable[[int], None]] = {
    each.__name__: each
    for each in (
        *(sign_up, migrate_organization, clean_up_organization),
        *(refill_spares, reconcile, clean_up),
    )
}


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still here")


class Death:
    """Counts the statements of one job, and kills the process at one of them."""

    def __init__(self, job_id: int, *, at: int) -> None:
        self.count = 0
        self._job_id = job_id
        self._at = at
        self._is_begun = False

    def prepare(self) -> None:
        begin, execute, write = frame._begin, psycopg.Cursor.execute, Worker._persist_job_status

        def begin_it(context: Any) -> None:
            self._is_begun = self._is_begun or context.job.id == self._job_id
            begin(context)

        def count(*args: Any, **kwargs: Any) -> Any:
            result = execute(*args, **kwargs)
            if self._is_begun and threading.current_thread().name.startswith("job"):
                self.count += 1
                if self.count == self._at:
                    die()
            return result

        async def die_or_write(*args: Any, **kwargs: Any) -> None:
            if kwargs["job"].id == self._job_id:
                self._is_begun = False
                if self._at:
                    die()
            await write(*args, **kwargs)

        frame._begin = begin_it
        psycopg.Cursor.execute = count  # type: ignore[method-assign]
        Worker._persist_job_status = die_or_write  # type: ignore[method-assign]


def main(kind: str, number: int, at: int) -> None:
    ASK[kind](number)
    job = ProcrastinateJob.objects.filter(task_name=kind).latest("pk")
    with connections["default"].cursor() as cursor:
        cursor.execute(_SILENT)
    death = Death(job.pk, at=at)
    death.prepare()
    JobWorker(goes_on=lambda: True, concurrency=1, once=True).run()
    print(death.count)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
