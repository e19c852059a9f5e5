"""Counts each server's PostgreSQL connections while it is under load."""

import threading
from collections import defaultdict
from contextlib import ExitStack
from typing import Self

from .cluster import Cluster, Connection

_EVERY_SECONDS = 0.2
# Organizations' databases are named org_…; templates and spares, orgmgmt_….
_QUERY = r"""
SELECT application_name, count(*), count(*) FILTER (WHERE datname LIKE 'org\_%')
FROM pg_stat_activity WHERE application_name LIKE 'bench.%' GROUP BY 1
"""


class Sampler:
    """Looks at pg_stat_activity in a thread while the block runs."""

    def __init__(self, cluster: Cluster) -> None:
        self._scope = ExitStack()
        self._cluster = cluster
        self._done = threading.Event()
        self._all: dict[str, list[int]] = defaultdict(list)
        self._organizations: dict[str, list[int]] = defaultdict(list)

    def __enter__(self) -> Self:
        connection = self._scope.enter_context(self._cluster.superuser())
        self._thread = threading.Thread(target=self._look, args=(connection,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()
        self._scope.close()

    def _look(self, connection: Connection) -> None:
        while True:
            for process, count, organizations in connection.execute(_QUERY).fetchall():
                self._all[process].append(count)
                self._organizations[process].append(organizations)
            if self._done.wait(_EVERY_SECONDS):
                return

    def held(self, server: str) -> int:
        """The most connections of all the server's processes together."""
        return sum(max(seen) for process, seen in self._all.items() if _is_of(process, server))

    def most_of_a_process(self, server: str) -> int:
        """The most connections to organizations' databases of one process."""
        of_it = [
            max(seen) for process, seen in self._organizations.items() if _is_of(process, server)
        ]
        return max(of_it, default=0)


def _is_of(process: str, server: str) -> bool:
    return process.startswith(f"bench.{server}.")


def sessions_begun(connection: Connection) -> int:
    """Number of sessions with organizations' databases since the server's start."""
    row = connection.execute(
        r"SELECT coalesce(sum(sessions), 0)::bigint FROM pg_stat_database "
        r"WHERE datname LIKE 'org\_%'"
    ).fetchone()
    return int(row[0]) if row else 0
