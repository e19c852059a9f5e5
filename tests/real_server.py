"""Starts the server as in production: gunicorn processes on an embedded PostgreSQL.

    with RealServer() as server:
        requests.get(server.address + "/health")

For what a test client in this process cannot show: being killed, a browser, the time an answer
takes. Imports no Django, so that it can be used from anywhere. Everything lies in a temporary
folder, and every wait has a limit.
"""

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlencode

from cryptography.fernet import Fernet

from orgmgmt.embedded.postgres import EmbeddedPostgres
from orgmgmt.embedded.system import is_postmaster_of

from . import secrecy
from .memory import fastest_folder

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 90.0
STOP_SECONDS = 40.0
COMMAND_SECONDS = 120.0
# The data live as long as the test. synchronous_commit stays on: what was committed must survive a
# killed PostgreSQL, and without fsync that costs nothing.
POSTGRES_SETTINGS = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}


class ServerFailed(Exception):
    """The server failed; the message ends with its log."""


class RealServer:
    """A migrated master database, and gunicorn in its own process group.

    environment: what the application is configured with besides the secrets and its database.
    postgres_settings: the database server's, where they should not be POSTGRES_SETTINGS.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] = POSTGRES_SETTINGS,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="orgmgmt-server-", dir=fastest_folder()))
        self.folder.chmod(0o711)  # PostgreSQL's user passes through
        self.postgres = EmbeddedPostgres(self.folder / "data", settings=postgres_settings)
        self.media = self.folder / "data" / "files"
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._extra = dict(environment or {})
        self._keys = (secrets.token_urlsafe(64), Fernet.generate_key().decode())
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.postgres.acquire()
            self.manage("migrate", "--verbosity", "0")
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.stop()
        finally:
            self.postgres.release()
            secrecy.keep_logs(self.folder)
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """Production's settings, but with plain http."""
        database = self.postgres.connection_parameters()
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "DEBUG": "off",
            "HTTPS_ONLY": "off",
            "THROTTLES": "off",
            # As in tests/plugin.py.
            "ORG_DELETION_GRACE_DAYS": "0",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "ALLOWED_HOSTS": "127.0.0.1",
            "SECRET_KEY": self._keys[0],
            "CREDENTIAL_KEYS": self._keys[1],
            "DATA_DIR": str(self.folder / "data"),
            "MEDIA_ROOT": str(self.media),
            "STATIC_ROOT": str(self.folder / "static"),
            "MASTER_DB_HOST": str(database["host"]),
            "MASTER_DB_PORT": str(database["port"]),
            "MASTER_DB_NAME": str(database["dbname"]),
            "MASTER_DB_USER": str(database["user"]),
            "MASTER_DB_PASSWORD": str(database["password"]),
            **self._extra,
        }

    def manage(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run manage.py and return its output. Raises ServerFailed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        if done.returncode != 0:
            raise ServerFailed(f"manage.py {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def launch(self) -> None:
        """Start gunicorn, which runs prepare_start before it listens, without waiting."""
        self.media.mkdir(exist_ok=True)
        with self._open_log() as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "orgmgmt/gunicorn.py", "orgmgmt.wsgi"],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def start(self) -> None:
        """Start gunicorn and return when it answers. Raises ServerFailed."""
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError, http.client.HTTPException):
                if self.get("/health", timeout_seconds=5)[0] == 200:
                    return
            if self._process is None or self._process.poll() is not None:
                raise ServerFailed(f"gunicorn has ended. Its log ends:\n{self.log_end()}")
            time.sleep(0.05)
        raise ServerFailed(f"no answer in {START_SECONDS:.0f} s. The log ends:\n{self.log_end()}")

    def kill(self) -> None:
        """Kill gunicorn and everything it has started (SIGKILL)."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_SECONDS)
            self._process = None

    def stop(self) -> None:
        """Stop gunicorn as an operator would; by SIGKILL if that takes too long."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    @contextmanager
    def working(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run `manage.py worker` beside it during the block."""
        with self._open_log() as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "worker", "--with-parent"],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill_postgres(self) -> None:
        """Kill the postmaster (SIGKILL); its children end by themselves."""
        data = self.postgres.data_dir / "postgres"
        number = (data / "postmaster.pid").read_text().splitlines()[0]
        os.kill(int(number), signal.SIGKILL)
        # Until it is gone, whoever starts it again takes it for running.
        until = time.monotonic() + 10
        while is_postmaster_of(data, number) and time.monotonic() < until:
            time.sleep(0.01)

    def restart_postgres(self) -> None:
        """Start PostgreSQL if it does not run, and wait for its recovery."""
        self.postgres.acquire()

    def get(self, path: str, *, timeout_seconds: float = 60.0) -> tuple[int, Any]:
        """Status and body of a GET. Raises OSError and HTTPException."""
        return self._ask("GET", path, None, timeout_seconds)

    def post(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 60.0,
    ) -> tuple[int, Any]:
        """Status and body of a POST of JSON. Raises OSError and HTTPException."""
        return self._ask("POST", path, json.dumps(body), timeout_seconds, headers)

    def sign_up(self, name: str, *, email: str, password: str) -> tuple[int, Any]:
        """Status and body of a sign-up."""
        body = {"organization_name": name, "email": email, "password": password}
        return self.post("/org/create", body)

    def log_in(self, name: str, *, email: str, password: str) -> tuple[int, Any]:
        """Status and body of an admin's login."""
        query = urlencode({"organization_name": name})
        return self.post(f"/admin/login?{query}", {"email": email, "password": password})

    def log_end(self, lines: int = 25) -> str:
        """The last lines of the server's log."""
        text = (self.folder / "server.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _open_log(self) -> IO[bytes]:
        return (self.folder / "server.log").open("ab")

    def _ask(
        self,
        method: str,
        path: str,
        body: str | None,
        timeout_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)
        try:
            usual = {"Content-Type": "application/json", "Accept": "application/json"}
            connection.request(method, path, body, {**usual, **(headers or {})})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except json.JSONDecodeError as error:
            raise http.client.HTTPException(f"{method} {path}: no JSON") from error
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
