"""`make run` and its worker as processes: how they start and stop."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


def line_with(text: str, lines: Iterator[str]) -> str:
    return next(line for line in lines if text in line)


def test_ctrl_c_ends_make_run_quietly_during_a_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {"PORT": str(port), "ORG_SPARE_DATABASES": "0", "WEB_CONCURRENCY": "1"}
    serve = "from orgmgmt import serve; serve._GRACE_SECONDS = 3; serve.main()"
    with running("-c", serve, **environment) as process:
        assert process.stdout is not None
        line_with("Serving on", process.stdout)
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


def test_a_worker_that_starts_before_its_master_waits_for_it() -> None:
    # The path of a socket has at most 107 bytes, and a temporary folder may be longer.
    host = SERVER.socket_dir.with_name("later")
    with running("manage.py", "worker", MASTER_DB_HOST=str(host)) as process:
        assert process.stderr is not None
        told = line_with("waiting for the master database", process.stderr)
        assert "connection refused" in told
        host.symlink_to(SERVER.socket_dir)
        line_with("Starting worker", process.stderr)
        process.terminate()
        process.communicate(timeout=60)
    host.unlink()
    assert process.returncode == 0


def test_a_worker_does_not_wait_for_what_only_a_person_can_repair() -> None:
    ended = manage("worker", MASTER_DB_PASSWORD="wrong")
    assert ended.returncode == 1
    assert "wrong password for the role" in ended.stderr
