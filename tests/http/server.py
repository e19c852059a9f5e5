"""Starts the product on gunicorn in a process of its own, and sends requests to it."""

import http.client
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import requests

from tests import processes
from tests.plugin import SERVER

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60.0
COMMAND = ("-m", "gunicorn", "-c", "orgmgmt/gunicorn.py", "orgmgmt.wsgi")
# What an answer can hold that no log may.
_TOKEN_FIELDS = ("access_token", "refresh_token", "access", "refresh")
_PASSWORD_FIELDS = ("password", "new_password", "current_password")


@dataclass(frozen=True)
class Answer:
    """An answer read from a bare socket."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(repr=False)
class WebServer:
    """A running gunicorn, and the secrets sent to it or received from it."""

    port: int
    log: Path
    process: BaseProcess
    secrets: set[str] = field(default_factory=set)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request on a connection of its own; no redirect is followed unless asked for."""
        options = {"allow_redirects": False, "timeout": 60, **options}
        self._remember(options.get("json"), _PASSWORD_FIELDS)
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(method, self.url(path), **options)
        kind = response.headers.get("Content-Type", "")
        if response.content and kind.startswith("application/json"):
            self._remember(response.json(), _TOKEN_FIELDS)
        return response

    def post(self, path: str, body: Any, **options: Any) -> requests.Response:
        """POST of a JSON body."""
        return self.call("POST", path, json=body, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.call("GET", path, **options)

    def sign_up(
        self, name: str, *, email: str = "admin@test.com", password: str = "correct horse battery"
    ) -> requests.Response:
        """POST /org/create."""
        body = {"email": email, "password": password, "organization_name": name}
        return self.post("/org/create", body)

    def log_in(
        self, name: str, *, email: str = "admin@test.com", password: str = "correct horse battery"
    ) -> requests.Response:
        """POST /admin/login."""
        body = {"email": email, "password": password}
        return self.post("/admin/login", body, params={"organization_name": name})

    def raw(self, request: bytes) -> Answer:
        """Send raw bytes that no client library would send; the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            # The server may answer, and close, before it has read all of a body it refuses.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def _remember(self, value: Any, names: tuple[str, ...]) -> None:
        if not isinstance(value, dict):
            return
        for name in names:
            secret = value.get(name)
            # Short ones are words that a log line may hold by chance.
            if isinstance(secret, str) and len(secret) >= 10:
                self.secrets.add(secret[:200])

    def text(self) -> str:
        """Everything that the server has logged so far."""
        return self.log.read_text(errors="replace")


def environment(**changes: str) -> dict[str, str]:
    """The test run's own environment, with the password of its database."""
    password = str(SERVER.connection_parameters()["password"])
    return {**os.environ, "MASTER_DB_PASSWORD": password, **changes}


def limited(**seconds: float) -> dict[str, str]:
    """Changes of the environment that set these limits, however short."""
    return {
        "DJANGO_SETTINGS_MODULE": "tests.http.short_limits",
        "SHORT_LIMITS": json.dumps(seconds),
    }


@contextmanager
def serving(log: Path, **changes: str) -> Iterator[WebServer]:
    """gunicorn as it is deployed, one worker of 4 threads unless `changes` say otherwise; ended
    with the block.

    Its log holds no secret at the end.
    """
    port = free_port()
    size = {"WEB_CONCURRENCY": "1", "WEB_THREADS": "4"}
    variables = environment(HOST="127.0.0.1", PORT=str(port), **{**size, **changes})
    with processes.running(*COMMAND, cwd=ROOT, env=variables, log=log) as process:
        server = WebServer(port, log, process)
        server.secrets |= {
            variables["MASTER_DB_PASSWORD"],
            variables["SECRET_KEY"],
            variables["CREDENTIAL_KEYS"],
        }
        _wait(server)
        yield server
    written = server.text()
    leaked = [secret for secret in server.secrets if secret in written]
    assert not leaked, "the server's log holds a password, a token or a key"


@contextmanager
def working(log: Path, **changes: str) -> Iterator[None]:
    """`manage.py worker` beside a server with the same `changes`; ended with the block."""
    command = ("manage.py", "worker", "--with-parent")
    with processes.running(*command, cwd=ROOT, env=environment(**changes), log=log):
        yield


def _wait(server: WebServer) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not server.process.is_alive():
            raise AssertionError(f"the server has ended:\n{server.text()}")
        try:
            if server.get("/health").status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError(f"the server does not answer:\n{server.text()}")


def assert_no_traceback(server: WebServer) -> None:
    """The server's log has no traceback."""
    written = server.text()
    found = written.find("Traceback")
    assert found < 0, written[max(0, found - 300) : found + 3_000]


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def assert_one_shape(response: Any, *statuses: int) -> dict[str, Any]:
    """The response is an error of one of `statuses`, in the shape that all errors have."""
    status = getattr(response, "status_code", None) or response.status
    text = response.content.decode(errors="replace")[:2000]
    assert status in statuses, f"{status} and not one of {statuses}: {text}"
    content_type = response.headers.get("Content-Type", "")
    assert content_type.startswith("application/json"), f"{content_type}: {text}"
    assert len(response.content) < 5_000, "an error sends back what it was sent"
    error: dict[str, Any] = response.json()
    assert isinstance(error, dict), text
    assert set(error) in ({"detail", "code"}, {"detail", "code", "fields"}), text
    assert isinstance(error["detail"], str), text
    assert " " in error["detail"].strip(), f"this is no sentence: {text}"
    assert re.fullmatch(r"[a-z_]+", error["code"]), text
    assert ("fields" in error) == (error["code"] == "invalid"), text
    for name, messages in error.get("fields", {}).items():
        assert isinstance(name, str) and messages, text
        assert all(isinstance(message, str) and message for message in messages), text
    if status == 503:
        assert int(response.headers["Retry-After"]) > 0
    if status == 401:
        assert "WWW-Authenticate" in response.headers
    return error
