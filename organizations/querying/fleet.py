"""Asks many organizations' databases in parallel, and records it in the audit trail."""

import hashlib
from collections.abc import Collection, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice

import psycopg
from django.db.models import QuerySet

from organizations.migrating import fleet as migrating
from organizations.models import Organization
from organizations.postgres import installation
from organizations.tenancy import guard, keeper, trail

from .reading import Answer, Query, read

# Small, so that a row's credentials are fresh when its turn comes.
_PAGE = 50
_FIELDS = ("id", "name", "slug", "database_name", "role_name", "sealed_password") + (
    "read_only_until",
)


def ask(
    query: Query, *, chosen: Collection[int] | None = None, parallel: int = 0
) -> Generator[Answer, None, None]:
    """An answer for each organization, as it comes; suspended ones are asked too.

    chosen: their primary keys; None: all. parallel, 0: twice the cores, as far as the server has
    room. Holds as many answers as threads. An entry of the audit trail is written first, without
    the statement, which can contain personal data. Closing the iterator cancels what still runs.
    Raises InstallationUnclaimed and what the master's database raises.
    """
    installation.require()
    organizations: QuerySet[Organization] = Organization.objects.reachable()
    if chosen is not None:
        # One without a credential answers with that error.
        organizations = Organization.objects.usable().filter(pk__in=chosen)
    facts: dict[str, trail.Fact] = {
        "sha256": hashlib.sha256(query.text.encode()).hexdigest(),
        "length": len(query.text),
        "organizations": organizations.count(),
    }
    if chosen is not None:
        facts["ids"] = [str(each) for each in sorted(chosen)]
    trail.record("organizations.queried", organization_id=None, facts=facts)
    return _answers(
        migrating.by_pages(organizations, _FIELDS, _PAGE), query, migrating.parallel(parallel)
    )


def _answers(
    organizations: Iterator[Organization], query: Query, parallel: int
) -> Generator[Answer, None, None]:
    opened: set[guard.Connection] = set()
    running: set[Future[Answer]] = set()
    with ThreadPoolExecutor(parallel, thread_name_prefix="query") as threads:
        try:
            while True:
                for organization in islice(organizations, parallel - len(running)):
                    running.add(threads.submit(read, organization, query, opened))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                while done:
                    yield done.pop().result()
        finally:
            _end(running, opened)


def _end(running: set[Future[Answer]], opened: set[guard.Connection]) -> None:
    """Cancel what runs; what does not obey is terminated."""
    is_asked_again = False
    while running:
        for connection in tuple(opened):
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=guard.CANCEL_SECONDS)
            if is_asked_again:
                with suppress(psycopg.Error):  # It has just been closed.
                    info = connection.info
                    keeper.shared.end(info.user, info.dbname, info.backend_pid)
        _, running = wait(running, timeout=guard.CANCEL_SECONDS)
        is_asked_again = True
