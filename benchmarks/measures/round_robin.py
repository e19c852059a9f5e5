"""`make round-robin`: checks that a process's memory and connections do not grow.

    python -m benchmarks.measures.round_robin --organizations 3000

One process serves every organization in turn, and prints its memory and connections after each
twelfth of them: each 250th of 3,000. Exit code 1 if memory grows by more than 5 % from the second
of these lines to the last, or if more connections to organizations' databases are open than the
ceiling allows.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import PROJECT, Cluster, CommandFailed, task_command, watched
from benchmarks.harness.folders import end_in_order, temporary
from benchmarks.harness.rows import Row

ALLOWED_GROWTH = 0.05
STEPS = 12
_NAME = "bench.round-robin"


@dataclass(frozen=True)
class Look:
    """Memory and connections of the process after so many organizations."""

    organizations: int
    rss_mb: float
    connections: int


def touch(
    cluster: Cluster, file: Path, *, organizations: int, environment: Mapping[str, str]
) -> Iterator[Look | int]:
    """Yield the ceiling of connections, then a look at each twelfth of the organizations."""
    command = task_command(
        "touch", ["--file", file, "--organizations", organizations, "--steps", STEPS]
    )
    log = cluster.folder / "round-robin.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            watched(command),
            cwd=PROJECT,
            env=cluster.environment({"PGAPPNAME": _NAME, **environment}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
        cluster.superuser() as connection,
    ):
        assert process.stdin is not None and process.stdout is not None
        try:
            for line in process.stdout:
                told = json.loads(line)
                if "ceiling" in told:
                    yield told["ceiling"]
                    continue
                row = connection.execute(
                    r"SELECT count(*) FROM pg_stat_activity "
                    r"WHERE application_name = %s AND datname LIKE 'org\_%%'",
                    (_NAME,),
                ).fetchone()
                yield Look(told["organizations"], told["rss"] / 2**20, row[0] if row else 0)
                process.stdin.write("on\n")
                process.stdin.flush()
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            if process.poll() is None:
                process.terminate()
        if process.wait() != 0:
            raise CommandFailed(f"touch: {log.read_text()[-2000:]}")


def growth(looks: Sequence[Look]) -> float:
    """Growth of memory since the second look, as a share. By then all that loads once is loaded."""
    base = looks[min(1, len(looks) - 1)]
    return looks[-1].rss_mb / base.rss_mb - 1


def measure(
    cluster: Cluster,
    clock: Clock,
    file: Path,
    *,
    organizations: int,
    environment: Mapping[str, str],
) -> list[Row]:
    """Rows of every look, of the growth, and of the most connections."""
    clock.say(f"{organizations} organizations touched in turn by one process")
    looks: list[Look] = []
    ceiling = 0
    for told in touch(cluster, file, organizations=organizations, environment=environment):
        if isinstance(told, int):
            ceiling = told
            continue
        looks.append(told)
        print(f"{told.organizations:6d}  {told.rss_mb:7.1f} MB  {told.connections:4d} connections")
    rows = []
    for look in looks:
        key = f"round robin/{look.organizations}"
        rows.append(Row(key, "MB", (look.rss_mb,), {"connections": look.connections}))
    most = max(look.connections for look in looks)
    facts = {"ceiling": ceiling, "organizations": organizations}
    return [
        *rows,
        Row("round robin/growth", "ratio", (growth(looks),), facts),
        Row("round robin/connections", "connections", (float(most),), facts),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measures.round_robin")
    parser.add_argument("--organizations", type=int, default=3000)
    parser.add_argument("--ceiling", type=int, default=64, help="ORG_MAX_CONNECTIONS")
    options = parser.parse_args(arguments)
    count = options.organizations
    if count < STEPS:
        parser.error(f"--organizations: at least {STEPS}")
    limits = {"ORG_MAX_CONNECTIONS": str(options.ceiling)}
    end_in_order()
    clock = Clock(float("inf"))
    with temporary() as folder, Cluster(folder) as cluster:
        clock.say(f"making {count} organizations")
        cluster.spread("seed", ["--count", count], processes=2)
        file = cluster.folder / "product.requests"
        cluster.task_quietly("tokens", "--count", count, "--file", file)
        rows = measure(cluster, clock, file, organizations=count, environment=limits)
    by_key = {row.key: row for row in rows}
    grown, most = by_key["round robin/growth"], by_key["round robin/connections"]
    ceiling = grown.facts["ceiling"]
    print(f"memory {grown.median:+.1%}, at most {most.median:.0f} of {ceiling} connections")
    assert isinstance(ceiling, int)
    return 1 if grown.median > ALLOWED_GROWTH or most.median > ceiling else 0


if __name__ == "__main__":
    sys.exit(main())
