"""Output of `migrate_orgs`: progress bar, log lines or JSON."""

import io
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from organizations.document import Document

from .results import Kind, Progress, Report, Result

# Maximum errors in the table at the end; the master has all of them.
_MOST_ERRORS = 20
# Width of the tables when the terminal's is unknown.
_LINE = 100
Write = Callable[[str], object]


class View(Protocol):
    """Output of a run."""

    def show(self, progress: Progress) -> None:
        """Show the next result."""
        ...

    def pause(self) -> None:
        """Stop drawing, to ask a question."""
        ...

    def end(self, report: Report) -> None:
        """Show the final report."""
        ...


def what_was_done(result: Result) -> str:
    """The result for one organization, in a few words."""
    if result.kind == Kind.MIGRATED:
        done = [f"{label}.{name}" for label, name in result.applied]
        done += [f"{label}.{name} unapplied" for label, name in result.unapplied]
        return f"{', '.join(done)} ({result.seconds:.2f} s)"
    if result.kind == Kind.FAILED:
        return result.error
    words = {
        Kind.IN_STEP: "up to date",
        Kind.CONFIRMED: "as the record says",
        Kind.CORRECTED: "record corrected",
        Kind.BUSY: "skipped, another process is working on it",
        Kind.GONE: "deleted meanwhile",
        Kind.NOT_TRIED: "not tried",
    }
    return words[result.kind]


def tables(report: Report) -> Iterator[Table]:
    """The report as tables: numbers, and the failed organizations."""
    counts = report.counts
    rows = [
        ("migrated", counts[Kind.MIGRATED]),
        ("as the record says", counts[Kind.CONFIRMED]),
        ("record corrected", counts[Kind.CORRECTED]),
        ("up to date", counts[Kind.IN_STEP] + report.in_step_before),
        ("skipped, being worked on", counts[Kind.BUSY]),
        ("deleted meanwhile", counts[Kind.GONE]),
        ("not tried", report.not_tried),
    ]
    numbers = Table("organizations", f"in {report.seconds:.1f} s")
    for what, number in [row for row in rows if row[1]] + [("failed", report.failures)]:
        numbers.add_row(what, str(number))
    yield numbers
    if report.failed:
        failed = Table("failed", "error")
        for result in report.failed[:_MOST_ERRORS]:
            failed.add_row(Text(result.name), Text(result.error))
        if report.failures > _MOST_ERRORS:
            failed.add_row("…", f"and {report.failures - _MOST_ERRORS} more")
        yield failed


class Lines:
    """Output as one line per organization, and the tables: for logs."""

    def __init__(self, out: Write, err: Write) -> None:
        self._out, self._err = out, err

    def show(self, progress: Progress) -> None:
        result = progress.latest
        if result is not None and result.kind != Kind.NOT_TRIED:
            write = self._err if result.kind == Kind.FAILED else self._out
            write(f"{result.slug}: {what_was_done(result)}")

    def pause(self) -> None:
        pass

    def end(self, report: Report) -> None:
        drawn = io.StringIO()
        console = Console(file=drawn, width=_LINE)
        for table in tables(report):
            console.print(table)
        self._out(drawn.getvalue())


def bar_on(console: Console, *columns: ProgressColumn, disable: bool = False) -> Bar:
    """A bar with rate, time and time left, and further columns. A task of it has a field `rate`."""
    return Bar(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *columns,
        console=console,
        disable=disable,
    )


def move(bar: Bar, task: TaskID, completed: int, **fields: Any) -> None:
    """Show how many are done, and the rate."""
    bar.update(task, completed=completed, **fields)
    speed = bar.tasks[task].speed
    bar.update(task, rate="" if speed is None else f"{speed:.1f}/s")


class Terminal:
    """Output as a bar with rate, time left and failures, and tables at the end."""

    def __init__(self, file: IO[str]) -> None:
        self._console = Console(file=file)
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def show(self, progress: Progress) -> None:
        if self._bar is None:
            self._begin(progress.total)
        assert self._bar is not None and self._task is not None  # noqa: S101, PT018
        # rich restarts its clock when the total changes (progress.py, Progress.update).
        if progress.total != self._bar.tasks[self._task].total:
            self._bar.tasks[self._task].total = progress.total
        move(self._bar, self._task, progress.done, failed=f"{progress.failed} failed")
        result = progress.latest
        if result is not None and result.kind == Kind.FAILED:
            self._bar.console.print(Text(f"{result.slug}: {result.error}", style="red"))

    def _begin(self, total: int) -> None:
        self._bar = bar_on(self._console, TextColumn("{task.fields[failed]}"))
        self._task = self._bar.add_task("", total=total, rate="", failed="0 failed")
        self._bar.start()

    def pause(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def end(self, report: Report) -> None:
        self.pause()
        for table in tables(report):
            self._console.print(table)


class Json:
    """Output as one JSON document, streamed."""

    def __init__(self, out: Write, facts: dict[str, Any]) -> None:
        self._document = Document(out, "organizations", facts)

    def show(self, progress: Progress) -> None:
        result = progress.latest
        if result is None or result.kind == Kind.NOT_TRIED:
            return
        facts = {
            "id": result.organization_id,
            "name": result.name,
            "slug": result.slug,
            "result": result.kind.value,
            "applied": [".".join(key) for key in result.applied],
            "unapplied": [".".join(key) for key in result.unapplied],
            "fingerprint": result.fingerprint,
            "error": result.error,
            "seconds": round(result.seconds, 4),
        }
        self._document.add(facts)

    def pause(self) -> None:
        pass

    def end(self, report: Report) -> None:
        facts = {
            "counts": {kind.value: report.counts[kind] for kind in Kind if kind != Kind.NOT_TRIED}
            | {"not tried": report.not_tried, "in step before": report.in_step_before},
            "stopped": report.stopped and report.stopped.value,
            "seconds": round(report.seconds, 3),
        }
        self._document.end(facts)
