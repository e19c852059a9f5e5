"""Measures the least that a sign-up needs: one password hash and one CREATE DATABASE."""

import secrets
import time

from argon2 import low_level
from psycopg import sql

from benchmarks.harness.cluster import Cluster

TEMPLATE = "bench_template"
# organizations' passwords: accounts/hashers.py has the same numbers.
HASH_PARAMETERS = {"memory_cost": 19456, "time_cost": 2, "parallelism": 1}


def hash_milliseconds(count: int) -> list[float]:
    """The time of each of so many Argon2id hashes."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        low_level.hash_secret(
            b"a passphrase for the load",
            secrets.token_bytes(16),
            hash_len=32,
            type=low_level.Type.ID,
            **HASH_PARAMETERS,
        )
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def make_template(cluster: Cluster, organization_database: str) -> None:
    """Make a database to copy: as an organization's, and without connections."""
    with cluster.superuser() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (organization_database,),
        )
        _drop(cluster, TEMPLATE)
        connection.execute(
            sql.SQL(
                "CREATE DATABASE {} TEMPLATE {} STRATEGY WAL_LOG ALLOW_CONNECTIONS false"
            ).format(sql.Identifier(TEMPLATE), sql.Identifier(organization_database))
        )


def create_milliseconds(cluster: Cluster, count: int) -> list[float]:
    """The time of each of so many bare CREATE DATABASE … TEMPLATE … STRATEGY WAL_LOG."""
    taken = []
    names = [f"bench_copy_{number}" for number in range(count)]
    try:
        with cluster.superuser() as connection:
            for name in names:
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY WAL_LOG").format(
                    sql.Identifier(name), sql.Identifier(TEMPLATE)
                )
                began = time.perf_counter()
                connection.execute(statement)
                taken.append(1000 * (time.perf_counter() - began))
    finally:
        for name in names:
            _drop(cluster, name)
    return taken


def _drop(cluster: Cluster, name: str) -> None:
    with cluster.superuser() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
