"""deploy/haproxy.cfg with other ports, in front of two servers of one process each."""

import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from tests.http.server import free_port
from tests.real_server import PROJECT, RealServer

pytestmark = [pytest.mark.proxy, pytest.mark.timeout(180)]

CONFIGURATION = PROJECT / "deploy" / "haproxy.cfg"
PASSWORD = "correct horse battery"
COMPANIES = 8
# One more process with the application, beside what RealServer starts.
GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "orgmgmt/gunicorn.py", "orgmgmt.wsgi"]
ENVIRONMENT = {
    "WEB_CONCURRENCY": "1",
    "TRUSTED_PROXY_HOPS": "1",
    "TRUST_X_FORWARDED_PROTO": "on",
}


class Processes:
    """Two application servers, `one` and `two`, with HAProxy in front."""

    def __init__(self) -> None:
        self._scope = ExitStack()
        self.server = RealServer(environment=ENVIRONMENT)
        self.ports = {"one": free_port(), "two": free_port(), "proxy": free_port()}
        self.address = f"http://127.0.0.1:{self.ports['proxy']}"
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Processes":
        self._scope.enter_context(self.server)
        for name in ("one", "two"):
            self.start(name)
        self._start_proxy(self.server.folder / "haproxy.cfg")
        return self

    def __exit__(self, *exc_info: object) -> None:
        for name in tuple(self.running):
            self.stop(name)
        self._scope.close()

    def start(self, name: str) -> None:
        port = str(self.ports[name])
        environment = {**self.server.environment, "PORT": port, "PGAPPNAME": name}
        self.running[name] = subprocess.Popen(GUNICORN, cwd=PROJECT, env=environment)
        self._wait(f"http://127.0.0.1:{port}")

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        process.wait(40)

    def _start_proxy(self, file: Path) -> None:
        program = shutil.which("haproxy")
        assert program is not None, "There is no haproxy: as root `apt-get install haproxy`."
        text = CONFIGURATION.read_text()
        for written, name in (("8080", "proxy"), ("8001", "one"), ("8002", "two")):
            assert text.count(f"127.0.0.1:{written}") == 1
            text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{self.ports[name]}")
        file.write_text(text)
        self.running["proxy"] = subprocess.Popen([program, "-db", "-f", str(file)])
        self._wait(self.address)

    def _wait(self, address: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(requests.RequestException):
                if requests.get(f"{address}/health", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{address} does not answer")

    def who_serves(self) -> dict[str, set[str]]:
        """The processes that have connections to each organization's database."""
        parameters: dict[str, Any] = self.server.postgres.superuser_parameters("postgres")
        with psycopg.connect(**parameters) as connection:
            rows = connection.execute(
                "SELECT datname, application_name FROM pg_stat_activity "
                "WHERE datname LIKE 'org\\_%' AND application_name IN ('one', 'two')"
            ).fetchall()
        found: dict[str, set[str]] = defaultdict(set)
        for database, process in rows:
            found[database].add(process)
        return dict(found)


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes() as running:
        yield running


@pytest.fixture(scope="module")
def tokens(processes: Processes) -> list[str]:
    """A token of each company, from a server that is not behind the proxy."""
    found = []
    for number in range(COMPANIES):
        account = {"email": "a@b.example", "password": PASSWORD}
        name = {"organization_name": f"Company {number}"}
        made = requests.post(
            f"{processes.server.address}/org/create", json=account | name, timeout=60
        )
        assert made.status_code == 201, made.text
        login = requests.post(
            f"{processes.server.address}/admin/login", params=name, json=account, timeout=60
        )
        found.append(login.json()["access_token"])
    return found


def ask(processes: Processes, token: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{processes.address}/api/v1/me/", headers=headers, timeout=60)


def test_an_organizations_requests_come_to_one_process(
    processes: Processes, tokens: list[str]
) -> None:
    for _ in range(5):
        for token in tokens:
            assert ask(processes, token).status_code == 200
    serving = processes.who_serves()
    assert len(serving) == COMPANIES
    assert all(len(names) == 1 for names in serving.values()), serving
    assert len(set().union(*serving.values())) == 2, "one does it all"


def test_a_forged_token_is_refused_wherever_it_comes(
    processes: Processes, tokens: list[str]
) -> None:
    head, _, signature = tokens[0].split(".")
    body = tokens[1].split(".")[1]
    for forged in (f"{head}.{body}.{signature}", "x.y.z", "nothing"):
        assert ask(processes, forged).status_code == 401


def test_requests_without_a_token_are_answered(processes: Processes) -> None:
    for _ in range(4):
        answer = requests.post(
            f"{processes.address}/org/get", json={"organization_name": "Company 1"}, timeout=60
        )
        assert answer.status_code == 200


def test_a_process_that_goes_loses_no_organization(processes: Processes, tokens: list[str]) -> None:
    processes.stop("two")
    try:
        for token in tokens:
            assert ask(processes, token).status_code == 200
    finally:
        processes.start("two")
