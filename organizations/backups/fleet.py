"""Backs up or verifies many organizations, in parallel. A failure does not affect the others."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Literal

from django.db import connections

from organizations.errors import BackupNotFound, OrganizationError
from organizations.models import BackupRun, Organization
from organizations.tenancy import TooBusy

from . import making, runs, verifying

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """folder: the backup's in the storage. code, error: empty if it succeeded."""

    organization_id: int
    name: str
    folder: str
    bytes: int
    code: str
    error: str


# Its argument says whether to go on.
Act = Callable[[Callable[[], bool]], BackupRun]
Work = tuple[Organization, BackupRun | None, Act]


def back_up(organizations: Iterable[Organization], *, parallel: int) -> Iterator[Result]:
    """Back up each. Yields results as they come; closing the iterator ends what runs."""
    return in_parallel([(row, None, _backing_up(row)) for row in organizations], parallel)


Which = Literal["newest", "unverified", "bad"]


def verify(
    organizations: Iterable[Organization], *, parallel: int, which: Which = "newest"
) -> Iterator[Result]:
    """Verify the newest good backup of each, or the one that an archived one is thawed from; every
    good one not verified yet; or every bad one again."""
    work: list[Work] = []
    for row in organizations:
        if which == "newest":
            found = [row.archived_backup or verifying.newest_good(row)]
        else:
            found = list(verifying.unverified(row) if which == "unverified" else verifying.bad(row))
        work += [(row, run, _verifying(row, run) if run else _nothing(row)) for run in found]
    return in_parallel(work, parallel)


def in_parallel(work: list[Work], parallel: int) -> Iterator[Result]:
    """Do all of it. Yields results as they come; closing the iterator ends what runs."""
    stopping = threading.Event()
    with ThreadPoolExecutor(parallel, thread_name_prefix="backup") as threads:
        futures = [threads.submit(_result, *each, stopping) for each in work]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            stopping.set()
            threads.shutdown(cancel_futures=True)


def _result(
    organization: Organization, run: BackupRun | None, act: Act, stopping: threading.Event
) -> Result:
    code = sentence = ""
    try:
        run = act(lambda: not stopping.is_set())
    except Exception as error:
        if not isinstance(error, OrganizationError | TooBusy):
            logger.exception("backup failed", extra={"organization": organization.pk})
        code, sentence = runs.told(error)
    finally:
        connections.close_all()  # This thread's: no other thread can.
    folder, stored = (run.folder, run.bytes) if run else ("", 0)
    return Result(organization.pk, organization.name, folder, stored, code, sentence)


def _backing_up(organization: Organization) -> Act:
    return lambda goes_on: making.back_up(organization, goes_on=goes_on)


def _verifying(organization: Organization, run: BackupRun) -> Act:
    def act(goes_on: Callable[[], bool]) -> BackupRun:
        verifying.verify(run, name=organization.name, goes_on=goes_on)
        return run

    return act


def _nothing(organization: Organization) -> Act:
    def act(goes_on: Callable[[], bool]) -> BackupRun:
        raise BackupNotFound(organization.name)

    return act
