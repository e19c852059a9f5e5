"""`make run` and its worker as processes: how they start and stop."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import processes
from tests.organizations.helpers import REPOSITORY, manage, process_environment
from tests.plugin import SERVER


@contextmanager
def running(*words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run python in a process group of its own, as a terminal does."""
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env=process_environment(**environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(text: str, log: Path) -> str:
    """Wait until the log has a line with the text; that line."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines() if log.exists() else ():
            if text in line:
                return line
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def test_ctrl_c_ends_make_run_quietly_during_a_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {"PORT": str(port), "ORG_SPARE_DATABASES": "0", "WEB_CONCURRENCY": "1"}
    serve = "from orgmgmt import serve; serve._GRACE_SECONDS = 3; serve.main()"
    with running("-c", serve, **environment) as process:
        assert process.stdout is not None
        assert any("Serving on" in line for line in process.stdout)
        with socket.create_connection(("127.0.0.1", port)) as slow:
            # Its body never comes.
            slow.sendall(
                b"POST /org/get HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
            )
            assert slow.recv(100).startswith(b"HTTP/1.1 100"), "a thread has taken it"
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "SIGKILL" not in err
    assert "Traceback" not in err


def test_a_worker_that_starts_before_its_master_waits_for_it(tmp_path: Path) -> None:
    # The path of a socket has at most 107 bytes, and a temporary folder may be longer.
    host = SERVER.socket_dir.with_name("later")
    said = tmp_path / "said"
    environment = process_environment(MASTER_DB_HOST=str(host))
    with processes.running(
        "manage.py", "worker", cwd=REPOSITORY, env=environment, log=said
    ) as process:
        assert "connection refused" in line_of("waiting for the master database", said)
        host.symlink_to(SERVER.socket_dir)
        line_of("Starting worker", said)
        process.terminate()
        process.join(60)
        assert process.exitcode == 0
    host.unlink()


def test_a_worker_does_not_wait_for_what_only_a_person_can_repair() -> None:
    ended = manage("worker", MASTER_DB_PASSWORD="wrong")
    assert ended.returncode == 1
    assert "wrong password for the role" in ended.stderr
