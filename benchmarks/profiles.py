"""`make profiles`: where the time of each load goes, as flame graphs and PostgreSQL statements.

    python -m benchmarks.profiles --organizations 20 --seconds 5 --only login

Writes profile-<load>.svg (py-spy) and profiles.md (pg_stat_statements, and the widest frames of the
flame graphs) into benchmarks/results/. py-spy attaches to a running process, which most Linux
installations allow only to root.
"""

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.harness import contract, wrk
from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import POSTGRES_SETTINGS, Cluster
from benchmarks.harness.folders import end_in_order, temporary
from benchmarks.harness.web import WebServer, cpu_ticks
from benchmarks.harness.wrk import Request
from benchmarks.measures.sign_up import PATHS, refilling
from benchmarks.names import seeded
from benchmarks.report import RESULTS

SETTINGS = POSTGRES_SETTINGS | {"shared_preload_libraries": "pg_stat_statements"}
STATEMENTS = 8
FRAMES = 24
# A frame in py-spy 0.4's flame graph: name and place, then the first sample and the number.
_FRAME = re.compile(
    r'<title>([^<]*?) \([\d,]+ samples?, [\d.]+%\)</title><rect [^>]*fg:x="(\d+)" fg:w="(\d+)"'
)
# So that every sign-up has a name of its own.
_NAMES = r'"(org|orgrole|orgmgmt)_[^"]*"'
# py-spy writes its own command line, with this machine's paths.
_TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*')
_OURS = ("accounts/", "organizations/", "orgmgmt/")
LOADS = ("routed", "look-up", "login", "sign-up by template", "sign-up with spares")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the result goes")
    parser.add_argument("--organizations", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=8, help="how long each load is looked at")
    parser.add_argument("--only", choices=LOADS, nargs="+", default=LOADS)
    options = parser.parse_args()
    end_in_order()
    options.results.mkdir(parents=True, exist_ok=True)
    clock = Clock(float("inf"))
    told = [
        "# Profiles\n\nMade by `make profiles`: two processes of four threads, one looked at.\n"
    ]
    with temporary() as folder, Cluster(folder / "main", postgres_settings=SETTINGS) as cluster:
        with cluster.superuser() as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        clock.say(f"making {options.organizations} organizations")
        cluster.spread("seed", ["--count", options.organizations], processes=2)
        for what in options.only:
            clock.say(what)
            told.append(_profile(cluster, what, options))
    file = options.results / "profiles.md"
    file.write_text("\n".join(told))
    clock.say(f"wrote {file}")
    return 0


def _profile(cluster: Cluster, what: str, options: argparse.Namespace) -> str:
    """One load's profile, of the process and of PostgreSQL, as Markdown."""
    name = what.replace(" ", "-")
    graph = options.results / f"profile-{name}.svg"
    environment = _environment(what)
    refilled = refilling(cluster, environment) if what.endswith("spares") else nullcontext()
    with WebServer(cluster, f"profile-{name}", environment=environment) as server, refilled:
        run = _load(cluster, server, what, options)
        run(2)
        with cluster.superuser() as connection:
            connection.execute("SELECT pg_stat_statements_reset()")
        # The load begins a second before the recording, and ends after it.
        done: list[int] = []
        load = threading.Thread(target=lambda: done.append(run(options.seconds + 3)))
        load.start()
        _record(server, graph, options.seconds)
        graph.write_text(titled(graph.read_text(), what))
        load.join()
        with cluster.superuser() as connection:
            statements = connection.execute(
                "SELECT sum(calls), sum(total_exec_time), "
                "left(regexp_replace(query, %s, '…', 'g'), 110) FROM pg_stat_statements "
                "GROUP BY 3 ORDER BY 2 DESC LIMIT %s",
                (_NAMES, STATEMENTS),
            ).fetchall()
    answered = max(1, done[0] if done else 0)
    lines = [f"## {what}\n\n{answered} answered. [Flame graph](profile-{name}.svg)\n"]
    lines += ["| share of samples | frame |", "| --- | --- |"]
    lines += [f"| {share:.1f} % | `{frame}` |" for frame, share in widest(graph.read_text())]
    lines += ["", "| calls an answer | ms an answer | statement |", "| --- | --- | --- |"]
    for calls, milliseconds, query in statements:
        shown = str(query).replace("|", "\\|").replace("`", "")
        lines.append(f"| {calls / answered:.2f} | {milliseconds / answered:.3f} | `{shown}` |")
    return "\n".join([*lines, ""])


def _environment(what: str) -> dict[str, str]:
    if what == "routed":
        return {"ORG_MAX_CONNECTIONS": "128"}
    for path in PATHS:
        if path.name in what:
            return dict(path.environment)
    return {}


def _load(
    cluster: Cluster, server: WebServer, what: str, options: argparse.Namespace
) -> Callable[[int], int]:
    """A function that loads the server for so many seconds and returns the number of answers."""
    count: int = options.organizations
    file = cluster.folder / f"{server.name}.requests"
    if what.startswith("sign-up"):
        return lambda seconds: _sign_ups(server, seconds)
    if what == "routed":
        cluster.task_quietly("tokens", "--count", count, "--file", file)
    else:
        wrk.write_requests(file, (_request(what, name) for name in seeded(count)))
    connections = 16 if what == "routed" else 8
    return lambda seconds: (
        wrk.run(
            server.address, file, connections=connections, seconds=seconds, count=count
        ).requests
    )


def _request(what: str, name: str) -> Request:
    if what == "look-up":
        return Request("POST", "/org/get", body=json.dumps({"organization_name": name}))
    body = json.dumps({"email": contract.email_of(name), "password": contract.PASSWORD})
    return Request("POST", f"/admin/login?{urlencode({'organization_name': name})}", body=body)


_numbers = iter(range(10**9))


def _sign_ups(server: WebServer, seconds: int) -> int:
    """At concurrency 8, some 12 a second, so that it lasts about as long as asked."""
    names = [f"load-{server.name}-{next(_numbers)}" for _ in range(12 * seconds)]
    return len(contract.sign_up(server.address, names, concurrency=8).seconds)


def _record(server: WebServer, graph: Path, seconds: int) -> None:
    found = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if found is None:
        sys.exit("py-spy is not installed: make need-bench")
    # wrk's connections stay with the process that accepted them, which may be only one of the two.
    before = {pid: cpu_ticks(pid) for pid in server.worker_pids()}
    time.sleep(0.7)
    process = max(before, key=lambda pid: cpu_ticks(pid) - before[pid])
    command = [found, "record", "--pid", str(process), "--duration", str(seconds), "--rate", "250"]
    done = subprocess.run([*command, "--output", str(graph)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"py-spy: {done.stderr.strip()[-500:]}")


def titled(graph: str, title: str) -> str:
    """The flame graph with this title."""
    return _TITLE.sub(rf"\g<1>{title}", graph, count=1)


def widest(graph: str) -> list[tuple[str, float]]:
    """The product's own frames and waiting calls, with their percentage of samples."""
    samples: dict[str, set[int]] = {}
    for title, begin, width in _FRAME.findall(graph):
        frame = re.sub(r":\d+\)$", ")", html.unescape(title))
        # A frame can be above another of the same name; those samples count once.
        samples.setdefault(frame, set()).update(range(int(begin), int(begin) + int(width)))
    whole = max(1, len(set().union(*samples.values())))
    shares = {
        frame: 100 * len(seen) / whole
        for frame, seen in samples.items()
        if "(psycopg/connection.py" in frame or any(f"({each}" in frame for each in _OURS)
    }
    return sorted(shares.items(), key=lambda each: -each[1])[:FRAMES]


if __name__ == "__main__":
    sys.exit(main())
