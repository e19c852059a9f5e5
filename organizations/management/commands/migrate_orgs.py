"""`manage.py migrate_orgs [ORG…] [APP [MIGRATION]]`: migrates organizations' databases."""

import json
import signal
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q, QuerySet

from organizations import lifecycle, tenancy
from organizations.background import enqueueing
from organizations.errors import OrganizationError
from organizations.migrating import arguments, fleet, planning
from organizations.migrating.engine import Engine, Target
from organizations.migrating.progress import Json, Lines, Terminal, View
from organizations.migrating.results import Report, Stopped
from organizations.models import Organization

WAITS_FOR_YES = 3
INTERRUPTED = 130


class Command(BaseCommand):
    """A failure does not affect the others; a stopped or killed run resumes where it was."""

    help = (
        "Migrate the organizations' databases to the code's migrations, or an app to one "
        "migration, forwards or backwards: migrate_orgs; migrate_orgs 'Acme Corp' Globex; "
        "migrate_orgs accounts 0003. A tenant app's label is the app; names before it are "
        "organizations, and a migration may follow it. Exit code 1: some failed; 3: --yes is "
        "needed; 130: interrupted."
    )

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(*args, **kwargs)
        # Options may come between the organizations and the app, which are one list of words.
        parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add(
            "words",
            nargs="*",
            metavar="ORG… APP MIGRATION",
            help="default: all, to the newest migration",
        )
        add("--org", action="append", default=[], help="an organization with the name of an app")
        add("--parallel", type=int, default=0, help="threads (default: twice the cores)")
        add(
            "--canary",
            default="",
            metavar="N|PERCENT",
            help="migrate this number or share first, such as 3 or 5%%; then ask",
        )
        add("--yes", action="store_true", help="do not ask")
        add("--max-failures", type=int, default=0, help="stop after this many failures")
        add("--plan", action="store_true", help="only show the SQL")
        add(
            "--verify",
            action="store_true",
            help="only compare the databases with the record, and correct the record",
        )
        add(
            "--retry-failed",
            action="store_true",
            help="only those whose last try failed or was interrupted",
        )
        add("--json", action="store_true", help="print one JSON document")
        add("--enqueue", action="store_true", help="enqueue a job for each organization instead")

    def handle(self, *args: Any, **options: Any) -> None:
        self._labels = tenancy.tenant_labels()
        try:
            names, self._target = arguments.split(options["words"], labels=self._labels)
            canary = arguments.canary(options["canary"]) if options["canary"] else None
            self._options = options | {"names": names + options["org"]}
            if options["parallel"] < 0 or options["max_failures"] < 0:
                raise CommandError("--parallel and --max-failures must be 1 or more.")
            chosen = self._chosen()
            if options["plan"]:
                self._plan(chosen)
                return
            self._confirm_rollback()
            if options["enqueue"]:
                self._enqueue(chosen)
                return
            report = self._run(chosen, canary)
        except (OrganizationError, arguments.Unclear) as error:
            raise CommandError(str(error)) from error
        self._conclude(report)

    def _chosen(self) -> "QuerySet[Organization]":
        # Suspended ones too, so that they are up to date when resumed.
        return lifecycle.reachable_organizations(self._options["names"])

    def _again(self, **changes: Any) -> str:
        return arguments.command(self._options, self._target, labels=self._labels, **changes)

    def _asks(self) -> bool:
        return not self._options["json"] and sys.stdin.isatty() and self.stdout.isatty()

    # --- Before ---------------------------------------------------------------------------------
    def _plan(self, chosen: "QuerySet[Organization]") -> None:
        engine = Engine(self._target)
        found = planning.plans(chosen, self._outdated(engine), engine)
        if self._options["json"]:
            facts = {"plans": [planning.facts(plan) for plan in found]}
            self.stdout.write(json.dumps(facts, ensure_ascii=False))
            return
        lines = [line for plan in found for line in planning.text(plan)]
        self.stdout.write("\n".join(lines) or "-- nothing to do")

    def _outdated(self, engine: Engine) -> Q:
        which = fleet.Options(
            target=self._target,
            verify=self._options["verify"],
            retry_failed=self._options["retry_failed"],
        )
        return fleet.select(which, None if self._target == Target() else engine)

    def _enqueue(self, chosen: "QuerySet[Organization]") -> None:
        """Each job runs by itself, so options about a whole run do not apply."""
        if any(self._options[each] for each in ("canary", "max_failures", "parallel", "verify")):
            raise CommandError(
                "--enqueue cannot be combined with --canary, --max-failures, --parallel or "
                "--verify: workers migrate each organization by itself."
            )
        engine = Engine(self._target)
        jobs = enqueueing.migrations(
            chosen.filter(self._outdated(engine)),
            label=self._target.label,
            name=self._target.name,
            fingerprint=engine.fingerprint,
        )
        as_json = self._options["json"]
        self.stdout.write(json.dumps({"jobs": jobs}) if as_json else f"{jobs} jobs enqueued.")

    def _confirm_rollback(self) -> None:
        """A target that is not the newest can unapply migrations, and delete data with them."""
        if self._options["yes"] or self._options["verify"]:
            return
        to_unapply = Engine(self._target).to_unapply if self._target.name else ()
        if not to_unapply:
            return
        what = ", ".join(".".join(key) for key in to_unapply)
        if self._asks():
            if _says_yes(f"This unapplies {what} where applied. Continue?"):
                return
            raise CommandError("Nothing was done.", returncode=WAITS_FOR_YES)
        raise CommandError(
            f"This unapplies {what} where applied, and deletes their data. "
            f"To do it: {self._again(yes=True)}",
            returncode=WAITS_FOR_YES,
        )

    # --- The run --------------------------------------------------------------------------------
    def _run(self, chosen: "QuerySet[Organization]", canary: fleet.Canary | None) -> Report:
        given = self._options
        view = self._view()

        def goes_on(report: Report) -> bool:
            view.pause()
            if given["yes"]:
                return True
            return self._asks() and _says_yes(
                f"The canaries are done: {report.done}, none failed. "
                f"Continue with the other {report.not_tried}?"
            )

        with _signals() as interrupted:
            options = fleet.Options(
                target=self._target,
                parallel=given["parallel"],
                canary=canary,
                max_failures=given["max_failures"],
                verify=given["verify"],
                retry_failed=given["retry_failed"],
                goes_on=goes_on,
                is_interrupted=interrupted.is_set,
            )
            try:
                report = fleet.run(chosen, options, on_progress=view.show)
            except BaseException:
                view.pause()
                raise
        view.end(report)
        return report

    def _view(self) -> View:
        if self._options["json"]:
            target = {"app": self._target.label, "migration": self._target.name}
            return Json(self.stdout.write, {"target": target})
        if self.stdout.isatty():
            # The stream itself: OutputWrapper.write ends what it writes with a new line
            # (django/core/management/base.py).
            return Terminal(cast(IO[str], self.stdout._out))
        return Lines(self.stdout.write, self.stderr.write)

    # --- After ----------------------------------------------------------------------------------
    def _conclude(self, report: Report) -> None:
        said = []
        code = 0
        if report.failures:
            code = 1
            # What could not be read has no failed try.
            tries = not self._options["verify"]
            again = self._again(retry_failed=tries, canary="", max_failures=0)
            said.append(f"{report.failures} failed. Fix the cause, then run: {again}")
        if report.stopped == Stopped.CANARY_WAITS:
            code = WAITS_FOR_YES
            said.append(
                f"The canaries are done, and {report.not_tried} wait. To continue: "
                f"{self._again(canary='', yes=bool(self._target.name))}"
            )
        elif report.stopped is not None:
            code = INTERRUPTED if report.stopped == Stopped.INTERRUPTED else 1
            said.append(
                f"Stopped, {report.stopped}; {report.not_tried} were not tried. "
                f"To continue: {self._again()}"
            )
        if code:
            raise CommandError(" ".join(said), returncode=code)


def _says_yes(question: str) -> bool:
    # Ctrl-C and Ctrl-D mean no; the run's own handler would let input() keep waiting.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; the second ends the process as usual."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # Handlers can only be set in the main thread.
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def restore() -> None:
        for kind in kinds:
            signal.signal(kind, before[kind])

    def stop(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        restore()

    for kind in kinds:
        signal.signal(kind, stop)
    try:
        yield interrupted
    finally:
        restore()
