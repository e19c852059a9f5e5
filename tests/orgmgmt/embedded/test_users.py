"""Embedded PostgreSQL: processes that use one server at the same time or in turn."""

import os
import shutil
import signal
from pathlib import Path

import psycopg
import pytest

from orgmgmt.embedded import postgres
from orgmgmt.embedded.postgres import EmbeddedError, EmbeddedPostgres

from .helpers import User, ask, make, postmaster_pid, wait_until


def test_the_last_user_stops_the_server_however_often_it_acquired(
    server: EmbeddedPostgres,
) -> None:
    second = make(server.data_dir)
    server.acquire()
    second.acquire()
    second.acquire()
    server.release()
    assert second.is_running()
    second.release()
    assert not second.is_running()
    second.release()


def test_stop_stops_it_for_all_users_and_acquire_starts_it_again(server: EmbeddedPostgres) -> None:
    with server:
        with psycopg.connect(**server.connection_parameters()):  # type: ignore[arg-type]
            make(server.data_dir).stop()
        assert not server.is_running()
        server.acquire()
        assert ask(server.connection_parameters(), "SELECT 1") == 1


def test_processes_that_start_at_once_make_one_server(folder: Path) -> None:
    server = make(folder / "data")
    users = [User(server) for _ in range(3)]
    for user in users:
        user.wait_until_up()
    assert ask(server.connection_parameters(), "SELECT 1") == 1
    assert (server.data_dir / "postgres.log").read_text().count("starting PostgreSQL") == 2
    for user in users:
        assert server.is_running()
        user.finish()
    assert not server.is_running()
    assert [*server.data_dir.glob("*.new-*")] == []


def test_processes_that_come_and_go_always_find_it_up(server: EmbeddedPostgres) -> None:
    script = (
        "import psycopg\n"
        "for _ in range(2):\n"
        "    with server:\n"
        "        for _ in range(3):\n"
        "            psycopg.connect(**server.connection_parameters()).close()\n"
    )
    for user in [User(server, script) for _ in range(3)]:
        user.finish()
    assert not server.is_running()


def test_a_killed_user_leaves_the_server_to_the_next(server: EmbeddedPostgres) -> None:
    user = User(server)
    user.wait_until_up()
    pid = postmaster_pid(server)
    user.kill()
    assert server.is_running()
    server.acquire()
    assert postmaster_pid(server) == pid
    server.release()
    assert not server.is_running()


def test_an_interrupt_in_the_terminal_spares_the_server(server: EmbeddedPostgres) -> None:
    user = User(server, start_new_session=True)
    user.wait_until_up()
    os.killpg(user.process.pid, signal.SIGINT)
    user.process.communicate(timeout=10)
    assert ask(server.connection_parameters(), "SELECT 1") == 1
    assert os.getsid(postmaster_pid(server)) != user.process.pid
    server.stop()


def test_a_forked_child_goes_on_using_the_server(server: EmbeddedPostgres) -> None:
    script = (
        "server.acquire()\n"
        "if os.fork() == 0:\n"
        "    print('up', flush=True)\n"
        "    sys.stdin.read()\n"
        "server.release()\n"
    )
    user = User(server, script)
    user.wait_until_up()
    user.process.wait(timeout=10)
    assert server.is_running()
    user.finish()
    wait_until(lambda: not server.is_running())


def test_a_start_that_another_process_never_ends_is_given_up(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "START_SECONDS", 0)
    monkeypatch.setattr(postgres, "COMMAND_SECONDS", 0.1)
    with (
        server._starting(),
        pytest.raises(EmbeddedError, match="Another process has held .*starting.lock for 0 sec"),
    ):
        make(server.data_dir).acquire()


def test_releasing_a_folder_that_is_gone_is_no_error(folder: Path) -> None:
    server = make(folder / "data")
    server.data_dir.mkdir()
    server._in_use = server._lock("in-use.lock", 1)
    shutil.rmtree(server.data_dir)
    server.release()
    assert server._in_use is None
