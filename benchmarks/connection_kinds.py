"""`make connection-kinds`: what each way to keep organizations' connections open costs.

    python -m benchmarks.connection_kinds --organizations 100 --seconds 3

One process with four threads runs one `SELECT 1` a block. Databases are chosen evenly, and roles
have one SCRAM iteration, as organizations' roles have. The ways take turns. It needs
requirements/bench.txt. docs/decisions/0013-connections.md has a result.
"""

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from psycopg import sql
from psycopg_pool import ConnectionPool

from organizations.tenancy import pool
from organizations.tenancy.guard import Connection
from orgmgmt.embedded.postgres import EmbeddedPostgres

THREADS = 4
ROUNDS = 3
Block = Callable[[int], None]
Parameters = list[dict[str, Any]]


def _ask(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT 1")


@contextmanager
def anew(databases: Parameters) -> Iterator[Block]:
    """A new connection for each block."""

    def block(number: int) -> None:
        with psycopg.connect(**databases[number]) as connection:
            _ask(connection)

    yield block


@contextmanager
def kept_by_thread(databases: Parameters) -> Iterator[Block]:
    """Each thread keeps what it opened, as CONN_MAX_AGE does: no ceiling."""
    here = threading.local()
    everything: list[psycopg.Connection[Any]] = []

    def block(number: int) -> None:
        mine: dict[int, psycopg.Connection[Any]] = here.__dict__.setdefault("mine", {})
        if number not in mine:
            mine[number] = psycopg.connect(**databases[number])
            everything.append(mine[number])
        _ask(mine[number])

    yield block
    for connection in everything:
        connection.close()


@contextmanager
def pool_for_each(databases: Parameters) -> Iterator[Block]:
    """psycopg's pool for each organization, as small as possible: no common ceiling."""
    pools: dict[int, ConnectionPool[Any]] = {}
    lock = threading.Lock()

    def block(number: int) -> None:
        with lock:
            if number not in pools:
                pools[number] = ConnectionPool(
                    kwargs=databases[number], min_size=0, max_size=THREADS, num_workers=1, open=True
                )
        with pools[number].connection() as connection:
            _ask(connection)

    yield block
    for each in pools.values():
        each.close()


def shared(ceiling: int) -> Callable[[Parameters], Any]:
    """The product's way: one pool for all, with a ceiling."""

    @contextmanager
    def kind(databases: Parameters) -> Iterator[Block]:
        settings.ORG_MAX_CONNECTIONS = ceiling
        ours = pool.Pool()
        entries = [pool.DatabaseEntry() for _ in databases]

        def block(number: int) -> None:
            connection = ours.take(
                entries[number], lambda: Connection.connect(**databases[number], autocommit=True)
            )
            try:
                _ask(connection)
            finally:
                ours.give_back(entries[number], connection, keep=True)

        yield block
        ours.close_idle()

    return kind


@contextmanager
def databases(count: int) -> Iterator[tuple[Parameters, dict[str, Any]]]:
    """Create so many organizations' databases; the superuser's connection parameters."""
    with tempfile.TemporaryDirectory(prefix="orgmgmt-bench-") as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "data", settings={"max_connections": "1000"})
        with server:
            superuser: dict[str, Any] = dict(server.superuser_parameters())
            with psycopg.connect(**superuser, autocommit=True) as connection:
                connection.execute("SET scram_iterations = 1")
                connection.execute("CREATE ROLE organization LOGIN PASSWORD 'only here'")
                for number in range(count):
                    statement = sql.SQL("CREATE DATABASE {}")
                    connection.execute(statement.format(sql.Identifier(f"org_{number}")))
            own = superuser | {"user": "organization", "password": "only here"}
            yield [own | {"dbname": f"org_{number}"} for number in range(count)], superuser


def measure(
    kind: Any, parameters: Parameters, superuser: dict[str, Any], seconds: float
) -> tuple[float, int, int]:
    """(blocks in a second, most sessions, most threads)."""
    done: list[int] = []
    most_threads = 0
    until = time.monotonic() + seconds

    with kind(parameters) as block:

        def work(seed: int) -> None:
            order, count = random.Random(seed), 0
            while time.monotonic() < until:
                with suppress(psycopg.OperationalError):
                    block(order.randrange(len(parameters)))
                    count += 1
            done.append(count)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
        for thread in threads:
            thread.start()
        time.sleep(seconds * 0.9)
        most_threads = threading.active_count() - THREADS - 1
        with psycopg.connect(**superuser) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'organization'"
            ).fetchone()
        for thread in threads:
            thread.join()
    return sum(done) / seconds, int(row[0]) if row else 0, most_threads


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connection_kinds")
    parser.add_argument("--organizations", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    settings.configure(
        ORG_MAX_CONNECTIONS=32,
        ORG_CONNECTION_IDLE_SECONDS=300,
        ORG_CONNECTION_WAIT_SECONDS=5,
        ORG_MAX_ANSWER_BYTES=64_000_000,
        STATEMENT_TIMEOUT_SECONDS=8,
        MASTER_DB_DIRECT=None,
    )
    kinds = {
        "one for each block": anew,
        "kept by each thread": kept_by_thread,
        "psycopg's pool for each": pool_for_each,
        "one pool, ceiling 128": shared(128),
        "one pool, ceiling 32": shared(32),
    }
    found: dict[str, list[tuple[float, int, int]]] = {name: [] for name in kinds}
    with databases(options.organizations) as (parameters, superuser):
        for _ in range(ROUNDS):
            for name, kind in kinds.items():
                found[name].append(measure(kind, parameters, superuser, options.seconds))
    print(f"{options.organizations} organizations, {THREADS} threads")
    print("| way | blocks/s | connections | threads beside |\n| --- | --- | --- | --- |")
    for name, rows in found.items():
        rate = statistics.median(row[0] for row in rows)
        print(f"| {name} | {rate:.0f} | {max(r[1] for r in rows)} | {max(r[2] for r in rows)} |")


if __name__ == "__main__":
    main()
