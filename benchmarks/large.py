"""`make bench-large`: measurements with 1,000 and 3,000 organizations.

    python -m benchmarks.large --folder FOLDER --counts 20 40

A killed run continues when it is started again: its databases and finished parts stay in --folder.
--fresh starts over. The folder is removed when everything is done. It takes hours, and 30 GB of
disk.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import ceilings
from benchmarks.harness import machine
from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import POSTGRES_SETTINGS, Cluster
from benchmarks.harness.folders import end_in_order, lasting, require_disk
from benchmarks.harness.rows import Row, Rows, write_json
from benchmarks.measures import existing, migrate, request_end, round_robin, routed
from benchmarks.report import RESULTS, result_of, write
from benchmarks.reporting import markdown

TITLE = "1,000 and 3,000 organizations"
NEEDED_BYTES = 30 * 10**9
COUNTS = (100, 1000, 3000)
# django-tenants' schemas take as long to make as databases, and 1,000 of them show enough.
LARGEST_WITH_ALL = 1000
SETTINGS = POSTGRES_SETTINGS | {"max_connections": "2000"}


class Progress:
    """The finished parts and their rows, on disk: a killed run goes on after them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        told: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        self._parts: dict[str, list[dict[str, Any]]] = told.get("parts", {})
        self.seconds: float = told.get("seconds", 0.0)
        self.began: str = told.get("began", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))

    def part(self, name: str, clock: Clock, make: Callable[[], Sequence[Row]]) -> None:
        """Measure the rows of a part, unless it is done."""
        if name in self._parts:
            clock.say(f"{name}: done before")
            return
        began = time.monotonic()
        self._parts[name] = [row.as_json() for row in make()]
        self.seconds += time.monotonic() - began
        told = {"parts": self._parts, "seconds": self.seconds, "began": self.began}
        write_json(self._file, told)

    def rows(self) -> Rows:
        return Rows(Row.from_json(row) for part in self._parts.values() for row in part)


def run(folder: Path, clock: Clock, options: argparse.Namespace) -> tuple[Progress, dict[str, Any]]:
    """Run every part that is not done yet."""
    progress = Progress(folder / "progress.json")
    with (
        Cluster(folder / "many", keep=True, postgres_settings=SETTINGS) as many,
        Cluster(folder / "few", keep=True, postgres_settings=SETTINGS) as few,
    ):
        facts = machine.facts(many)
        # Left by killed measurements.
        for cluster in (many, few):
            cluster.spread("drop", ["load-"], processes=2)
        seed(few, clock, existing.FEW)
        progress.part("request end", clock, lambda: request_end.measure(many, clock))
        progress.part("ceilings", clock, lambda: ceilings(many))
        for count in options.counts:
            seed(many, clock, count)
            progress.part(f"existing {count}", clock, _existing(few, many, clock, count, options))
            if count >= min(LARGEST_WITH_ALL, max(options.counts)):
                progress.part(f"routed {count}", clock, _routed(many, clock, count, options))
        most = max(options.counts)
        fleet = min(LARGEST_WITH_ALL, most)
        progress.part(f"migrations {fleet}", clock, _migrations(many, clock, fleet, options))
        progress.part(f"round robin {most}", clock, _round_robin(many, clock, most))
    return progress, facts


def seed(cluster: Cluster, clock: Clock, count: int) -> None:
    """Create organizations until there are so many."""
    clock.say(f"making organizations until there are {count}")
    began = time.monotonic()
    step = 100
    for upto in [*range(step, count, step), count]:
        cluster.spread("seed", ["--count", upto], processes=2)
        if time.monotonic() - began > 60:
            clock.say(f"{upto} organizations")
            began = time.monotonic()


def _existing(
    few: Cluster, many: Cluster, clock: Clock, count: int, options: argparse.Namespace
) -> Callable[[], list[Row]]:
    return lambda: existing.measure(
        few, many, clock, count=count, rounds=max(15, 2 * options.rounds), each=3, seconds=300
    )


def _routed(
    many: Cluster, clock: Clock, count: int, options: argparse.Namespace
) -> Callable[[], list[Row]]:
    variants = tuple(each for each in routed.ALL if each != routed.STARTPROJECT)
    if count > LARGEST_WITH_ALL:
        variants = tuple(each for each in variants if each.requests != "tenants")

    def measure() -> list[Row]:
        whose = {each.requests for each in variants}
        files = routed.prepare(many, clock, count, whose=whose)
        return routed.measure(
            many,
            clock,
            files,
            cells=[routed.Cell(count, "zipf"), routed.Cell(count, "uniform")],
            variants=variants,
            focus=(routed.OURS[64], routed.OURS[256], routed.PLAIN),
            focused=options.focused if count <= LARGEST_WITH_ALL else 0,
            rounds=options.rounds,
            wrk_seconds=options.wrk_seconds,
            seconds=1200,
        )

    return measure


def _migrations(
    many: Cluster, clock: Clock, count: int, options: argparse.Namespace
) -> Callable[[], list[Row]]:
    return lambda: migrate.measure(many, clock, count=count, rounds=options.rounds)


def _round_robin(many: Cluster, clock: Clock, count: int) -> Callable[[], list[Row]]:
    def measure() -> list[Row]:
        file = many.folder / "round-robin.requests"
        many.task_quietly("tokens", "--count", count, "--file", file)
        limits = routed.OURS[64].environment
        return round_robin.measure(many, clock, file, organizations=count, environment=limits)

    return measure


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large")
    default = Path(tempfile.gettempdir()) / f"orgmgmt-bench-large-{os.getuid()}"
    parser.add_argument("--folder", type=Path, default=default, help="where the databases lie")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the result goes")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--focused", type=int, default=15, help="rounds more of what goals compare")
    parser.add_argument("--wrk-seconds", type=int, default=3)
    parser.add_argument("--fresh", action="store_true", help="throw away what a killed run made")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind at the end")
    options = parser.parse_args(arguments)
    options.counts = sorted(options.counts)
    trial = tuple(options.counts) != COUNTS
    if not trial:
        require_disk(options.folder, NEEDED_BYTES)
    end_in_order()
    clock = Clock(float("inf"))
    try:
        with lasting(options.folder) as folder:
            if options.fresh:
                remove(folder)
                folder.mkdir(mode=0o711)
            progress, facts = run(folder, clock, options)
    except KeyboardInterrupt:
        print("Stopped. Start it again to go on; --fresh begins anew.", file=sys.stderr)
        return 130
    result = result_of(
        progress.rows(),
        title=TITLE,
        trial=trial,
        began=progress.began,
        seconds=round(progress.seconds, 1),
        machine=facts,
    )
    print(markdown.goals(result["goals"]))
    for file in write("bench-large", result, options.results):
        clock.say(f"wrote {file}")
    if not options.keep:
        remove(options.folder)
    return 0


def remove(folder: Path) -> None:
    """Remove what a run has made, and stop the servers of a killed one."""
    for name in ("many", "few"):
        if (folder / name / "data").exists():
            Cluster(folder / name).postgres.stop()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
