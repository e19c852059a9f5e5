"""Embedded PostgreSQL: where its folder, socket and programs are, and who owns them."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from orgmgmt.embedded import server as embedded_server
from orgmgmt.embedded import system
from orgmgmt.embedded.postgres import EmbeddedError, EmbeddedPostgres

from .helpers import AWKWARD, User, as_root, ask, make, postmaster_pid


@as_root
def test_a_folder_the_server_cannot_reach_is_refused_and_left_alone(tmp_path: Path) -> None:
    blocked = tmp_path / "closed"
    blocked.mkdir(mode=0o700)
    tops = [tmp_path, *tmp_path.parents]
    modes = [stat.S_IMODE(each.stat().st_mode) for each in tops]
    with pytest.raises(EmbeddedError, match=r"cannot enter /\S+\. Set DATA_DIR to a folder"):
        make(blocked / "data").acquire()
    assert list(blocked.iterdir()) == []
    assert [stat.S_IMODE(each.stat().st_mode) for each in tops] == modes


@as_root
def test_missing_parents_are_made_so_that_the_server_reaches_them(folder: Path) -> None:
    account = system.Account.of(folder / "none")
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


def test_a_path_that_cannot_hold_the_socket_gets_one_elsewhere(server: EmbeddedPostgres) -> None:
    data_dir = server.data_dir.rename(server.data_dir.with_name("with,comma"))
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
def test_another_users_socket_folder_is_refused(folder: Path, kind: str) -> None:
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
    wheel = system.wheel_folder()
    for name in (wheel.name, f"{wheel.name}.libs"):
        (tmp_path / name).symlink_to(wheel.with_name(name))
    tmp_path.chmod(0o700)
    monkeypatch.setattr(system, "wheel_folder", lambda: tmp_path / wheel.name)
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
    monkeypatch.setattr(system.Programs, "_major_version", lambda *_: None)
    with pytest.raises(EmbeddedError, match="one of .* Set DATA_DIR to another folder"):
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
    assert "Run as that user, or set DATA_DIR to another folder" in errors
