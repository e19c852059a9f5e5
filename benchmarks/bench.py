"""`make bench`: all measurements with up to 100 organizations, in at most 16 minutes.

    python -m benchmarks.bench --quick --results FOLDER

Starts its own PostgreSQL in a temporary folder and removes it at the end, also after Ctrl-C. Writes
JSON, a Markdown table and plots into benchmarks/results/.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import Cluster
from benchmarks.harness.folders import end_in_order, require_disk, temporary
from benchmarks.harness.rows import Row, Rows
from benchmarks.measures import existing, login, request_end, routed, sign_up
from benchmarks.names import seeded
from benchmarks.report import RESULTS, result_of, write
from benchmarks.reporting import markdown

TITLE = "Up to 100 organizations"
SECONDS = 960.0
# Some 500 databases: sign-ups stay until their round is over.
NEEDED_BYTES = 6 * 10**9
# To stop the servers and remove a hundred databases at the end.
CLEANUP_SECONDS = 20.0


@dataclass(frozen=True)
class Plan:
    """How much of each measurement a run has."""

    counts: tuple[int, ...] = (1, 10, 100)
    rounds: int = 2
    focused: int = 15
    wrk_seconds: int = 2
    login_seconds: int = 2
    short_rounds: int = 15
    sign_ups: sign_up.Sizes = sign_up.Sizes()
    request_end: tuple[int, ...] = request_end.COUNTS
    existing_each: int = 4


FULL = Plan()
QUICK = Plan(
    counts=(1, 6),
    rounds=1,
    focused=1,
    short_rounds=1,
    wrk_seconds=1,
    login_seconds=2,
    sign_ups=sign_up.Sizes(rounds=1, sequential=3, at_8=8, at_32=32, steps=2),
    request_end=(1, 10, 100),
    existing_each=3,
)


def run(folder: Path, clock: Clock, plan: Plan) -> tuple[Rows, dict[str, object]]:
    """Every row, and the machine's facts."""
    rows = Rows()
    most = max(plan.counts)
    with Cluster(folder / "main") as cluster:
        facts = machine.facts(cluster)
        clock.say(f"PostgreSQL {facts['postgresql']}, {facts['cores']} cores, {facts['cpu']}")
        rows.add(*ceilings(cluster))
        rows.add(*sign_up.measure(cluster, clock, sizes=plan.sign_ups, seconds=160))
        clock.say(f"making {existing.FEW} organizations, then {most}")
        cluster.spread("seed", ["--count", most], processes=2)
        with Cluster(folder / "few") as few:
            few.spread("seed", ["--count", existing.FEW], processes=2)
            rows.add(
                *existing.measure(
                    few,
                    cluster,
                    clock,
                    count=most,
                    rounds=min(8, plan.short_rounds),
                    each=plan.existing_each,
                    seconds=30,
                )
            )
        rows.add(*request_end.measure(cluster, clock, counts=plan.request_end))
        names = seeded(min(most, 10))
        rows.add(
            *login.logins(
                cluster, clock, names, rounds=plan.short_rounds, wrk_seconds=plan.login_seconds
            ),
            *login.look_ups(cluster, clock, names, rounds=plan.short_rounds, wrk_seconds=1),
        )
        files = routed.prepare(cluster, clock, most)
        left = clock.left() - CLEANUP_SECONDS
        cells = routed.affordable(
            routed.cells_of(*plan.counts),
            routed.ALL,
            wrk_seconds=plan.wrk_seconds,
            seconds=left,
        )
        rows.add(
            *routed.measure(
                cluster,
                clock,
                files,
                cells=cells,
                focus=(routed.OURS[128], routed.PLAIN, routed.STARTPROJECT),
                rounds=plan.rounds,
                focused=plan.focused,
                wrk_seconds=plan.wrk_seconds,
                seconds=left,
            )
        )
    return rows, facts


def ceilings(cluster: Cluster) -> list[Row]:
    """The default ORG_MAX_CONNECTIONS of a process."""
    limit = cluster.task("limits")["ORG_MAX_CONNECTIONS"]
    return [Row("reference/ceiling", "connections", (float(limit),))]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the result goes")
    parser.add_argument("--quick", action="store_true", help="a trial in about two minutes")
    parser.add_argument("--minutes", type=float, default=SECONDS / 60, help="at most so long")
    options = parser.parse_args(arguments)
    end_in_order()
    clock = Clock(60 * options.minutes)
    began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    try:
        with temporary() as folder:
            require_disk(folder, NEEDED_BYTES)
            rows, facts = run(folder, clock, QUICK if options.quick else FULL)
    except KeyboardInterrupt:
        print("Stopped. Nothing is left behind, and no result was written.", file=sys.stderr)
        return 130
    result = result_of(
        rows,
        title=TITLE,
        trial=options.quick,
        began=began,
        seconds=round(clock.passed(), 1),
        machine=facts,
    )
    print(markdown.goals(result["goals"]))
    for file in write("bench", result, options.results):
        clock.say(f"wrote {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
