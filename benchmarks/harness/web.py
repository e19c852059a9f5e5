"""Starts and stops gunicorn as in production, for the product and each comparator."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

from .cluster import PROJECT, Cluster, watched

PROCESSES = 2
THREADS = 4
START_SECONDS = 90.0
STOP_SECONDS = 40.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ServerFailed(Exception):
    """A server did not start; the message ends with its log."""


class WebServer:
    """Two processes of four threads. Its connections call themselves `bench.<name>.<process>`."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        *,
        settings: str = "orgmgmt.settings",
        wsgi: str = "orgmgmt.wsgi",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._wsgi = wsgi
        self._environment = {
            "DJANGO_SETTINGS_MODULE": settings,
            "PORT": str(self.port),
            "WEB_CONCURRENCY": str(PROCESSES),
            "WEB_THREADS": str(THREADS),
            "PGAPPNAME": f"bench.{name}",
            **(environment or {}),
        }
        self._log = cluster.folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def launch(self) -> None:
        """Start the processes and do not wait for them."""
        command = [sys.executable, "-m", "gunicorn", "-c", "benchmarks/gunicorn_config.py"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                watched([*command, self._wsgi]),
                cwd=PROJECT,
                env=self.cluster.environment(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C is for this process, which stops the server in order.
            )

    def start(self) -> None:
        """Start it and return when it answers. Raises ServerFailed."""
        self.launch()
        self.wait()

    def wait(self) -> None:
        """Return when it answers. Raises ServerFailed."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError, http.client.HTTPException):
                to_it = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                with closing(to_it) as connection:
                    connection.request("GET", "/health")
                    connection.getresponse().read()
                return
            if self._process is None or self._process.poll() is not None:
                break
            time.sleep(0.05)
        log = self._log.read_text(errors="replace").splitlines()[-25:]
        raise ServerFailed(f"{self.name} does not answer. Its log ends:\n" + "\n".join(log))

    def stop(self) -> None:
        """Stop it in order; by SIGKILL if that takes too long."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)

    def restart(self) -> None:
        """Restart it, so that it has no open connections."""
        self.stop()
        self.start()

    def worker_rss_bytes(self) -> list[int]:
        """The resident memory of each worker process."""
        return [rss_bytes(pid) for pid in self.worker_pids()]

    def worker_pids(self) -> list[int]:
        """The worker processes."""
        return [] if self._process is None else children(self._process.pid)


def rss_bytes(pid: int) -> int:
    """The resident memory of a process; 0 if it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    return 0


def cpu_ticks(pid: int) -> int:
    """The processor time of a process, in clock ticks; 0 if it has ended."""
    with suppress(OSError):
        # After the name, which may have spaces: utime and stime are the 14th and 15th field.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0


def children(pid: int) -> list[int]:
    """The running child processes of a process."""
    with suppress(OSError):
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in listed]
    return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
