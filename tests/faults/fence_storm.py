"""`make fence-storm`: suspends and resumes organizations at random under load, and counts leaks.

    python -m tests.faults.fence_storm --requests 20000 --seed 7

Eight clients send requests to three processes. A 200 for a request that began after a suspension
was acknowledged, and before the organization was resumed, is a fault. So is anything but 200 for
the organization that nobody suspends. Exit code 1 if there is a fault.
"""

import argparse
import http.client
import json
import random
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.real_server import PROJECT, RealServer

THREADS = 8
PROCESSES = 3
SUSPENDED = 4  # organizations that are suspended and resumed; one more never is
PASSWORD = "storm and stress 42"
EMAIL = "admin@storm.example"
# Requests on one connection, which one process answers.
REQUESTS_A_CONNECTION = 40
# Of 100 requests, those that write.
WRITES = 10
LONGEST_PAUSE_SECONDS = 0.2
# What suspends is a process of its own, as `manage.py` and Django admin are.
SWITCH = """
import sys, django
django.setup()
from organizations import lifecycle
from organizations.models import Organization
print("done", flush=True)
for line in sys.stdin:
    act, name = line.strip().split(" ", 1)
    organization = Organization.objects.get(name=name)
    getattr(lifecycle, f"{act}_organization")(organization)
    print("done", flush=True)
"""


@dataclass
class State:
    """The expected state of an organization. version: counts suspensions and resumptions."""

    name: str
    token: str
    user: int
    is_shut: bool = False
    version: int = 0


@dataclass
class Outcome:
    """answers: by status, of all; of_free: of the organization that is never suspended."""

    answers: Counter[int] = field(default_factory=Counter)
    of_free: Counter[int] = field(default_factory=Counter)
    while_shut: int = 0
    suspensions: int = 0
    seconds_to_suspend: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.answers.total()


class Storm:
    """Eight clients, and a thread that suspends and resumes."""

    def __init__(self, server: RealServer, *, requests: int, seed: int) -> None:
        self._server = server
        self._requests = requests
        self._seed = seed
        self._states: list[State] = []
        self._outcome = Outcome()
        self._lock = threading.Lock()
        self._over = threading.Event()

    def run(self) -> Outcome:
        for number in range(SUSPENDED + 1):
            self._states.append(self._signed_up(f"Fenced {number}"))
        threads = [threading.Thread(target=self._ask, args=(each,)) for each in range(THREADS)]
        with self._switch() as switch:
            for thread in threads:
                thread.start()
            self._change(switch)
            for thread in threads:
                thread.join()
        return self._outcome

    def _signed_up(self, name: str) -> State:
        status, _ = self._server.sign_up(name, email=EMAIL, password=PASSWORD)
        assert status == 201, status
        body = {"organization": name, "email": EMAIL, "password": PASSWORD}
        _, login = self._server.post("/api/v1/auth/token/", body)
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        status, content = _request(connection, "GET", "/api/v1/me/", login["access"])
        assert status == 200, status
        connection.close()
        return State(name, login["access"], json.loads(content)["id"])

    @contextmanager
    def _switch(self) -> Iterator[subprocess.Popen[str]]:
        environment = {**self._server.environment, "DJANGO_SETTINGS_MODULE": "orgmgmt.settings"}
        process = subprocess.Popen(
            [sys.executable, "-c", SWITCH],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            _wait(process)
            yield process
        finally:
            process.communicate(timeout=30)

    def _change(self, switch: subprocess.Popen[str]) -> None:
        moments = random.Random(self._seed)
        while self._outcome.count < self._requests:
            state = moments.choice(self._states[:SUSPENDED])
            if state.is_shut:
                # From here on an answer of 200 can be right.
                state.is_shut, state.version = False, state.version + 1
                _tell(switch, f"resume {state.name}")
            else:
                began = time.monotonic()
                _tell(switch, f"suspend {state.name}")
                state.is_shut, state.version = True, state.version + 1
                self._outcome.seconds_to_suspend.append(time.monotonic() - began)
                self._outcome.suspensions += 1
            time.sleep(moments.uniform(0, LONGEST_PAUSE_SECONDS))
        self._over.set()

    def _ask(self, thread: int) -> None:
        moments = random.Random(self._seed * 1_000 + thread)
        while not self._over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
            for _ in range(REQUESTS_A_CONNECTION):
                state = moments.choice(self._states)
                is_write = moments.randrange(100) < WRITES
                self._ask_one(connection, state, is_write=is_write)
            connection.close()

    def _ask_one(
        self, connection: http.client.HTTPConnection, state: State, *, is_write: bool
    ) -> None:
        version, was_shut = state.version, state.is_shut
        method, path, body = "GET", "/api/v1/me/", None
        if is_write:
            method, path, body = "PATCH", f"/api/v1/users/{state.user}/", '{"is_admin": true}'
        status, content = _request(connection, method, path, state.token, body)
        is_free = state is self._states[-1]
        with self._lock:
            self._outcome.answers[status] += 1
            if is_free:
                self._outcome.of_free[status] += 1
            if was_shut and state.version == version:
                self._outcome.while_shut += 1
                if status != 403:
                    self._outcome.faults.append(f"{method} while suspended: {status} {content!r}")
            elif status not in (200, 403, 503) or (is_free and status != 200):
                self._outcome.faults.append(f"{method} of {state.name}: {status} {content!r}")


def _request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    token: str,
    body: str | None = None,
) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def _tell(switch: subprocess.Popen[str], line: str) -> None:
    assert switch.stdin is not None
    switch.stdin.write(f"{line}\n")
    switch.stdin.flush()
    _wait(switch)


def _wait(switch: subprocess.Popen[str]) -> None:
    assert switch.stdout is not None
    assert switch.stdout.readline() == "done\n", "what suspends has failed"


def run(*, requests: int, seed: int) -> Outcome:
    """Run the storm against gunicorn with 3 processes."""
    size = {"WEB_CONCURRENCY": str(PROCESSES), "WEB_THREADS": "4"}
    with RealServer(environment=size) as server:
        return Storm(server, requests=requests, seed=seed).run()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fence_storm")
    parser.add_argument("--requests", type=int, default=20_000, help="at least (default: 20000)")
    parser.add_argument("--seed", type=int, help="of the random choices (default: a new one)")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    outcome = run(requests=options.requests, seed=seed)
    times = sorted(outcome.seconds_to_suspend)
    for what, count in (
        ("seed", seed),
        ("requests", outcome.count),
        *((f"answered {status}", count) for status, count in sorted(outcome.answers.items())),
        ("suspensions acknowledged", outcome.suspensions),
        ("median of a suspension, in ms", round(1_000 * times[len(times) // 2])),
        ("longest suspension, in ms", round(1_000 * times[-1])),
        ("requests begun while suspended", outcome.while_shut),
        ("faults", len(outcome.faults)),
    ):
        print(f"{what:<32}  {count:>8}")
    for fault in outcome.faults[:20]:
        print(fault)
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
