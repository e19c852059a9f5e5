"""Runs PostgreSQL's pg_dump and pg_restore, with a deadline and without secrets in arguments."""

import logging
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from django.conf import settings
from psycopg import pq

from organizations.errors import ProgramMissing, ProgramTooNew, ProgramTooOld

logger = logging.getLogger(__name__)

# How long an object's lock is waited for.
LOCK_WAIT = "10s"
# libpq takes the database from PGDATABASE if the name is an empty connection string.
SERVICE_NAME = "application_name=orgmgmt"
_LOOK_SECONDS = 0.2
_LAST_BYTES = 4_000
_SAID = re.compile(r"pg_(dump|restore): ")
# libpq's environment variables, including TLS's; None: it has none, as for sslpassword.
_NAMES = {
    option.keyword.decode(): option.envvar and option.envvar.decode()
    for option in pq.Conninfo.get_defaults()
}
_SERVICE = "orgmgmt"


def program(name: str) -> Path:
    """The path of pg_dump or pg_restore, from POSTGRES_BIN or else PATH. Raises ProgramMissing."""
    found = shutil.which(name, path=settings.POSTGRES_BIN or None)
    if found is None:
        raise ProgramMissing(name)
    return Path(found)


def major_version(name: str, *, server: int, at_least: int = 0) -> int:
    """The program's major version. Raises ProgramMissing; ProgramTooOld if it is lower than the
    server's or at_least; and ProgramTooNew.

    pg_dump refuses a newer server. What pg_dump writes, an older pg_restore cannot read.
    """
    try:
        found = _major_version(program(name))
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramMissing(name) from error
    if found < (needed := max(server, at_least)):
        raise ProgramTooOld(name, found=found, needed=needed)
    if server < _TRANSACTION_TIMEOUT_SINCE <= found:
        raise ProgramTooNew(name, found=found, server=server)
    return found


# pg_restore sets transaction_timeout, which an older server does not know.
_TRANSACTION_TIMEOUT_SINCE = 17
_VERSION_SECONDS = 30


@lru_cache(maxsize=8)
def _major_version(path: Path) -> int:
    said = subprocess.run(  # noqa: S603 - PostgreSQL's own program
        [path, "--version"], capture_output=True, check=True, text=True, timeout=_VERSION_SECONDS
    )
    number = re.search(r"\) (\d+)", said.stdout)
    return int(number[1]) if number else 0


class Run:
    """One run of a program, killed at its deadline, when `goes_on` is false, or with the block.

    where: psycopg's parameters of the database. until: by time.monotonic(). After the block:
    returncode, words (the end of its output), was_late and was_stopped.
    """

    def __init__(
        self,
        arguments: list[str],
        where: dict[str, Any],
        *,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.DEVNULL,
        until: float | None = None,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        with _service(where) as service:
            self._process = subprocess.Popen(  # noqa: S603 - PostgreSQL's own program
                arguments,
                env=_environment(where, service),
                pass_fds=() if service is None else (service,),
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
            )
        self.words = ""
        self.was_late = self.was_stopped = False
        self._until = until
        self._goes_on = goes_on
        self._threads = [threading.Thread(target=self._listen)]
        if until is not None:
            self._threads.append(threading.Thread(target=self._watch))
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            self._process.kill()
        self.end()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):  # It ended before it had read what is buffered.
                    pipe.close()

    @property
    def stdin(self) -> IO[bytes]:
        """Its input, if it is a pipe."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """Its output, if it is a pipe."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        return self._process.stdout

    @property
    def returncode(self) -> int:
        """0: it succeeded."""
        return int(self._process.returncode)

    def end(self) -> int:
        """Wait for its end, and return the code."""
        self._process.wait()
        for thread in self._threads:
            thread.join()
        return self.returncode

    def _listen(self) -> None:
        """Keep the end of its output. The database's owner can make it print a lot
        (client_min_messages, RAISE WARNING for each row): all is read, so that it does not block.
        """
        assert self._process.stderr is not None  # noqa: S101 - a pipe
        kept = b""
        while said := self._process.stderr.read(_LAST_BYTES):
            kept = (kept + said)[-_LAST_BYTES:]
        # The lines that begin with a program's name, not the others: DETAIL and CONTEXT quote rows.
        lines = kept.decode(errors="replace").splitlines()
        self.words = "\n".join(filter(_SAID.match, lines))

    def _watch(self) -> None:
        assert self._until is not None  # noqa: S101 - else there is no such thread
        while self._process.poll() is None:
            self.was_late = time.monotonic() > self._until
            self.was_stopped = not self._goes_on()
            if self.was_late or self.was_stopped:
                self._process.kill()
                return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LOOK_SECONDS)


@contextmanager
def _service(where: dict[str, Any]) -> Iterator[int | None]:
    """The reading end of a pipe with what has no variable, as a service file; None: all have one.

    Not a file: it can hold a password.
    """
    lines = [f"{key}={value}" for key, value in where.items() if _NAMES.get(key, "") is None]
    if not lines:
        yield None
        return
    reading, writing = os.pipe()
    try:
        with open(writing, "w") as pipe:
            pipe.write("\n".join([f"[{_SERVICE}]", *lines, ""]))
        yield reading
    finally:
        os.close(reading)


def _environment(where: dict[str, Any], service: int | None) -> dict[str, str]:
    """Parameters by environment: every user of the machine can read the arguments."""
    named = {name: str(where[key]) for key, name in _NAMES.items() if name and key in where}
    if service is not None:
        named |= {"PGSERVICE": _SERVICE, "PGSERVICEFILE": f"/dev/fd/{service}"}
    return named
