"""Measures the processor time of a web server's processes and of PostgreSQL, from /proc.

On a shared machine it says more than a rate: neighbours make a request wait, but do not make it
work.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from .cluster import Cluster
from .web import WebServer, children, cpu_ticks

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Meter:
    """Measures the block. web_seconds, postgres_seconds: processor time of all their processes."""

    def __init__(self, cluster: Cluster, server: WebServer) -> None:
        lines = (cluster.postgres.data_dir / "postgres" / "postmaster.pid").read_text()
        self._postmaster = int(lines.splitlines()[0])
        self._server = server
        self.web_seconds = self.postgres_seconds = 0.0

    def __enter__(self) -> Self:
        self._before = self._look()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        web, postgres = self._look()
        self.web_seconds = (web - self._before[0]) / _TICKS_A_SECOND
        self.postgres_seconds = (postgres - self._before[1]) / _TICKS_A_SECOND

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.web_seconds + self.postgres_seconds

    def _look(self) -> tuple[int, int]:
        web = sum(cpu_ticks(pid) for pid in self._server.worker_pids())
        backends = sum(cpu_ticks(pid) for pid in children(self._postmaster))
        return web, backends + cpu_ticks(self._postmaster) + _of_ended_children(self._postmaster)


def _of_ended_children(pid: int) -> int:
    # After the name: cutime and cstime are the 16th and 17th field.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[13]) + int(fields[14])
