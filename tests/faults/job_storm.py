"""`make job-storm`: kills workers in the middle of each kind of job; the next ones must finish it.

    python -m tests.faults.job_storm --kills 30 --seed 7

Each worker finishes what the one before it left, and dies in a job of its own (dying_worker.py).
Exit code 1 unless every job has ended once, and its result exists once.
"""

import argparse
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from tests.faults.kill_storm import leftovers, print_counts
from tests.real_server import PROJECT, RealServer

KINDS = (
    "sign_up",
    "migrate_organization",
    "clean_up_organization",
    "refill_spares",
    "reconcile",
    "clean_up",
)
EMAIL = "admin@storm.example"
PASSWORD = "storm and stress 42"
MIGRATION_BEFORE = ("accounts", "0002_login_versions_and_verified_addresses")
# A sign-up takes the only spare database there is, where one is ready.
ENVIRONMENT = {"ORG_SPARE_DATABASES": "1"}
_WORKER_SECONDS = 120.0
_MASTER = {
    "jobs that have not succeeded": """SELECT id || ' ' || task_name || ': ' || status
        FROM procrastinate_jobs WHERE status <> 'succeeded'""",
    "jobs that ended more than once": """SELECT job_id FROM procrastinate_events
        WHERE type IN ('succeeded', 'failed', 'aborted', 'cancelled')
        GROUP BY job_id HAVING count(*) > 1""",
    "sign-ups that are not done": """SELECT name || ': ' || state FROM pending_sign_ups
        WHERE state <> 'done' OR sealed_password_hash <> ''""",
    "names with other than one organization": """SELECT p.name || ': ' || count(o.id)
        FROM pending_sign_ups AS p LEFT JOIN organizations AS o
        ON o.name_digest = p.name_digest AND o.status <> 'deleted'
        GROUP BY p.name HAVING count(o.id) <> 1""",
    "deletions that were not finished": """SELECT name || ': ' || status FROM organizations
        WHERE name LIKE 'Doomed%' AND status <> 'deleted'""",
    "staff sessions that have expired": """SELECT session_key FROM django_session
        WHERE expire_date < now()""",
    "other than one spare database": """SELECT count(*) FROM spare_databases
        WHERE ready HAVING count(*) <> 1""",
}
_KILLED = """SELECT task_name, count(*) FROM procrastinate_jobs AS job WHERE 1 < (
    SELECT count(*) FROM procrastinate_events WHERE job_id = job.id AND type = 'started'
) GROUP BY task_name"""
_TENANT = {
    "migrations that are not recorded once": """SELECT app || '.' || name FROM django_migrations
        GROUP BY app, name HAVING count(*) <> 1
        UNION ALL SELECT 'accounts: ' || count(*) FROM django_migrations WHERE app = 'accounts'
        HAVING count(*) <> 3""",
    "logins that have expired": "SELECT id::text FROM login_sessions WHERE expires_at < now()",
    "other than one user": "SELECT count(*) FROM users HAVING count(*) <> 1",
}


def name_of(number: int) -> str:
    """The name of the sign-up with this number."""
    return f"Storm {number}"


@dataclass
class Outcome:
    """How often each kind of job was hit, and what was wrong afterwards."""

    statements: dict[str, int] = field(default_factory=dict)  # of one job that was left alone
    killed: dict[str, int] = field(default_factory=dict)  # jobs that were begun more than once
    faults: dict[str, list[str]] = field(default_factory=dict)

    @property
    def fault_count(self) -> int:
        return sum(len(found) for found in self.faults.values())


def run(*, kills: int, seed: int, kinds: Sequence[str] = KINDS) -> Outcome:
    """Kill workers so often in each kind of job, and count. Raises if a worker does not end."""
    moments = random.Random(seed)
    outcome = Outcome()
    with RealServer(environment=ENVIRONMENT) as server:
        for kind in kinds:
            began = time.monotonic()
            # The first lives: how many statements its job has says where the others may die.
            outcome.statements[kind] = statements = _worker(server, kind, 0, at=0)
            for number in range(1, kills + 1):
                _worker(server, kind, number, at=moments.randint(1, statements + 1))
            seconds = time.monotonic() - began
            print(f"{kind}: {statements} statements, {kills} kills in {seconds:.0f} s", flush=True)
        _finish(server)
        _count(server, outcome, kills=kills, kinds=kinds)
    return outcome


def _worker(server: RealServer, kind: str, number: int, *, at: int) -> int:
    """Run a worker that lives or dies at a statement; its statements. Raises RuntimeError."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.dying_worker", kind, str(number), str(at)],
        cwd=PROJECT,
        env=server.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_WORKER_SECONDS,
    )
    if ended.returncode != (-9 if at else 0):
        raise RuntimeError(f"{kind} {number}: exit code {ended.returncode}\n{ended.stderr}")
    return 0 if at else int(ended.stdout.split()[-1])


def _finish(server: RealServer) -> None:
    """Finish what the last one left, and make a spare if one was taken."""
    with _connect(server, "master_org_db") as master:
        master.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 h'")
    server.manage("worker", "--once")
    server.manage("refill_spares", "--enqueue")
    server.manage("worker", "--once")


def _count(server: RealServer, outcome: Outcome, *, kills: int, kinds: Sequence[str]) -> None:
    faults = outcome.faults
    with _connect(server, "master_org_db") as master:
        for what, query in _MASTER.items():
            faults[what] = _texts(master, query)
        outcome.killed = {str(kind): int(str(n)) for kind, n in master.execute(_KILLED)}
        rows = master.execute("SELECT name, database_name FROM organizations WHERE status='active'")
        organizations = [(str(name), str(database)) for name, database in rows]
    faults["kinds of job that were hit too seldom"] = [
        f"{kind}: {outcome.killed.get(kind, 0)}"
        for kind in kinds
        if outcome.killed.get(kind, 0) < kills
    ]
    faults |= leftovers(server.postgres.superuser_parameters("master_org_db"))
    faults |= {what: [] for what in (*_TENANT, "names that cannot log in")}
    for name, database in organizations:
        with _connect(server, database) as tenant:
            for what, query in _TENANT.items():
                faults[what] += [f"{name}: {each}" for each in _texts(tenant, query)]
        status = server.log_in(name, email=EMAIL, password=PASSWORD)[0]
        if status != 200:
            faults["names that cannot log in"].append(f"{name}: {status}")


def _connect(server: RealServer, database: str) -> "psycopg.Connection[tuple[object, ...]]":
    parameters = server.postgres.superuser_parameters(database)
    return psycopg.connect(**parameters, connect_timeout=30)  # type: ignore[arg-type]


def _texts(connection: "psycopg.Connection[tuple[object, ...]]", query: str) -> list[str]:
    return [str(row[0]) for row in connection.execute(query.encode())]


def show(outcome: Outcome) -> None:
    """Print the counts."""
    rows = [(f"{kind}: jobs begun again", count) for kind, count in outcome.killed.items()]
    print_counts(rows, outcome.faults)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.job_storm")
    kills = os.environ.get("KILLS", "") or "30"
    parser.add_argument(
        "--kills", type=int, default=kills, help="in each kind of job (KILLS; default: 30)"
    )
    parser.add_argument("--seed", type=int, help="of the random statements (default: a new one)")
    parser.add_argument("--only", choices=KINDS, action="append", help="this kind of job alone")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    print(f"{options.kills} kills in each kind of job, seed {seed}", flush=True)
    # The others need the organizations that sign-ups make.
    kinds = tuple(kind for kind in KINDS if kind in (options.only or KINDS) or kind == "sign_up")
    outcome = run(kills=options.kills, seed=seed, kinds=kinds)
    show(outcome)
    return 1 if outcome.fault_count else 0


if __name__ == "__main__":
    sys.exit(main())
