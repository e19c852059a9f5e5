"""`make run` and its worker as processes: how they start and stop."""

import os
import signal
import socket
import time
from pathlib import Path

from tests import processes
from tests.http.server import free_port
from tests.organizations.helpers import REPOSITORY, manage, process_environment
from tests.plugin import SERVER


def line_of(text: str, log: Path) -> str:
    """Wait until the log has a line with the text; that line."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines() if log.exists() else ():
            if text in line:
                return line
        time.sleep(0.02)
    raise AssertionError(log.read_text())


# In a process group of its own, as a terminal starts it, and with less time for running requests.
SERVE = (
    "import os; from orgmgmt import serve; os.setpgid(0, 0); serve._GRACE_SECONDS = 3; serve.main()"
)


def test_ctrl_c_ends_make_run_quietly_during_a_request(tmp_path: Path) -> None:
    port, said = free_port(), tmp_path / "said"
    environment = process_environment(PORT=str(port), ORG_SPARE_DATABASES="0", WEB_CONCURRENCY="1")
    with processes.running("-c", SERVE, cwd=REPOSITORY, env=environment, log=said) as process:
        line_of("Serving on", said)
        with socket.create_connection(("127.0.0.1", port)) as slow:
            # Its body never comes.
            slow.sendall(
                b"POST /org/get HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
            )
            assert slow.recv(100).startswith(b"HTTP/1.1 100"), "a thread has taken it"
            assert process.pid is not None
            os.killpg(process.pid, signal.SIGINT)
            process.join(60)
        assert process.exitcode == 0, said.read_text()
    assert "SIGKILL" not in said.read_text()
    assert "Traceback" not in said.read_text()


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
