"""Migrates many organizations' databases in parallel, canaries first.

The master's records say which are outdated, so a killed run resumes where it was. Memory does not
grow with the number of organizations.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from django.conf import settings
from django.db import connections
from django.db.models import Count, Q, QuerySet

from organizations.models import Organization
from organizations.postgres import installation
from organizations.provisioning import code

from .crew import Crew
from .engine import Engine, Target
from .results import Kind, Progress, Report, Result, Stopped
from .turn import migrate_one

__all__ = ["Canary", "Options", "migrate_one", "run", "select"]

_PAGE = 500
# The fields of a row that a turn needs.
_FIELDS = ("id", "key", "name", "slug", "fingerprint", "migration_attempts")


@dataclass(frozen=True)
class Canary:
    """How many go first: a number, or a share of all outdated ones."""

    number: int = 0
    percent: float = 0.0

    def of(self, total: int) -> int:
        """At least one, at most all."""
        count = self.number or -int(-total * self.percent // 100)
        return max(1, min(total, count))


@dataclass(frozen=True)
class Options:
    """The options of a run.

    parallel, 0: twice the cores, as far as the server has room. goes_on: called once the
    canaries are done. is_interrupted: called often; True ends the run after the running ones.
    """

    target: Target = Target()  # noqa: RUF009 - frozen
    parallel: int = 0
    canary: Canary | None = None
    max_failures: int = 0
    verify: bool = False
    retry_failed: bool = False
    goes_on: Callable[[Report], bool] = lambda report: True
    is_interrupted: Callable[[], bool] = lambda: False


def run(
    organizations: "QuerySet[Organization]",
    options: Options,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """Migrate the outdated of `organizations` to the target; with `verify`, look at all of them.

    Makes one query if none is outdated. A failed organization stays where it was and does not
    affect the others. Raises MigrationsIncoherent, MigrationUnknown, InstallationUnclaimed,
    ServerUnavailable and what the master's database raises.
    """
    began = time.monotonic()
    # Before any query: an unknown target, or code that no database can be migrated to, is an error
    # even when nothing is outdated.
    code.refuse_incoherent_migrations()
    engine = None if options.target == Target() else Engine(options.target)
    chosen = select(options, engine)
    numbers = organizations.order_by().aggregate(
        chosen=Count("pk", filter=chosen) if chosen else Count("pk"),
        in_step=Count("pk", filter=~_outdated(engine)),
    )
    report = Report(considered=numbers["chosen"])
    if not options.verify:  # With it these have a turn too.
        report.in_step_before = numbers["in_step"]
    if numbers["chosen"]:
        installation.require()
        fleet = _Run(engine or Engine(), options, report, on_progress)
        fleet.go(organizations.filter(chosen))
    report.seconds = time.monotonic() - began
    return report


def select(options: Options, engine: Engine | None) -> Q:
    """The filter for organizations that have a turn, by the master's record."""
    if options.verify:
        return Q()
    return Q(migration_attempts__gt=0) if options.retry_failed else _outdated(engine)


def _outdated(engine: Engine | None) -> Q:
    target = code.current().fingerprint if engine is None else engine.fingerprint
    # One whose last turn failed or was interrupted can be in any state.
    return ~Q(fingerprint=target) | Q(migration_attempts__gt=0)


class _Run:
    def __init__(
        self,
        engine: Engine,
        options: Options,
        report: Report,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._engine = engine
        self._options = options
        self._report = report
        self._on_progress = on_progress
        self._parallel = parallel(options.parallel)
        # Fingerprints of databases that this run migrated to the target or found there: others with
        # one of them have no turn. If databases are ahead of the code, or the target is one app,
        # none has the code's own fingerprint.
        self._reached: set[str] = set()

    def go(self, rows: "QuerySet[Organization]") -> None:
        report, options = self._report, self._options
        waiting = by_pages(rows, _FIELDS, _PAGE)
        if options.canary is not None:
            first = options.canary.of(report.considered)
            self._part(islice(waiting, first), first)
            if report.stopped is None and report.not_tried:
                if report.failures:
                    report.stopped = Stopped.CANARY_FAILED
                elif not options.goes_on(report):
                    report.stopped = Stopped.CANARY_WAITS
        if report.stopped is None and report.not_tried:
            self._part(waiting, report.not_tried)
        if not report.not_tried:
            report.stopped = None

    def _part(self, waiting: Iterator[Organization], total: int) -> None:
        report = self._report
        done, failures = report.done, report.failures
        crew = Crew(
            self._engine, parallel=min(self._parallel, total), looks_only=self._options.verify
        )
        for result in crew.results(self._needing(waiting)):
            if result is not None:
                report.add(result)
                if result.kind in (Kind.MIGRATED, Kind.IN_STEP):
                    self._reached.add(str(result.fingerprint))
            self._tell(done, total, failures, result)
            self._stop_where_due(crew)
        self._tell(done, total, failures, None)

    def _tell(self, done: int, total: int, failures: int, latest: Result | None) -> None:
        report = self._report
        done, failures = report.done - done, report.failures - failures
        self._on_progress(Progress(done, max(done, total), failures, latest))

    def _needing(self, waiting: Iterator[Organization]) -> Iterator[Organization]:
        for organization in waiting:
            is_there = organization.fingerprint in self._reached
            if is_there and not organization.migration_attempts:
                self._report.add(Result.of(organization, Kind.IN_STEP))
            else:
                yield organization

    def _stop_where_due(self, crew: Crew) -> None:
        report, most = self._report, self._options.max_failures
        if report.stopped is None:
            if self._options.is_interrupted():
                report.stopped = Stopped.INTERRUPTED
            elif most and report.failures >= most:
                report.stopped = Stopped.TOO_MANY_FAILURES
        if report.stopped is not None:
            crew.stopping.set()


def by_pages(
    rows: "QuerySet[Organization]", fields: Sequence[str], size: int
) -> Iterator[Organization]:
    """By primary key: a server-side cursor would need a transaction as long as the run."""
    last = 0
    while True:
        page = list(rows.filter(pk__gt=last).order_by("pk").only(*fields)[:size])
        yield from page
        if len(page) < size:
            return
        last = page[-1].pk


def parallel(wanted: int) -> int:
    """The number of threads: as requested, or twice the cores if the server has room.

    Each has a connection to the master and one to an organization's database.
    """
    if wanted:
        return max(1, min(wanted, settings.ORG_MAX_CONNECTIONS))
    with connections["default"].cursor() as cursor:
        # By datid: the kind of other roles' sessions is not visible.
        cursor.execute(
            "SELECT current_setting('max_connections')::int "
            "- current_setting('superuser_reserved_connections')::int "
            "- (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL)"
        )
        room = int(cursor.fetchone()[0])
    # Half of the room stays free for requests.
    return max(1, min(2 * (os.cpu_count() or 1), room // 4, settings.ORG_MAX_CONNECTIONS))
