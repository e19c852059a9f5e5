"""A small load client for any server that has /org/create, /org/get and /admin/login.

    python -m benchmarks.harness.contract http://127.0.0.1:8000 --sign-ups 40 --concurrency 8

Each worker keeps one connection. Prints JSON, times in milliseconds.
"""

import argparse
import http.client
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from urllib.parse import urlencode, urlsplit

from .rows import quantile

PASSWORD = "a passphrase for the load"  # noqa: S105 - of people who exist in a benchmark alone
REQUEST_SECONDS = 120.0


@dataclass
class Outcome:
    """Result of a number of requests: each one's time, the failures, and the total time."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    wall_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.wall_seconds if self.wall_seconds else 0.0

    def milliseconds(self, share: float) -> float:
        """The quantile of the durations; 0 if nothing was answered."""
        return 1000 * quantile(self.seconds, share) if self.seconds else 0.0


class Client:
    """One connection to a server, used by one thread."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port or 80, timeout=REQUEST_SECONDS
        )

    def close(self) -> None:
        self._connection.close()

    def sign_up(self, name: str) -> tuple[int, str]:
        """Status and body."""
        body = {"organization_name": name, "email": email_of(name), "password": PASSWORD}
        return self._post("/org/create", body)

    def look_up(self, name: str) -> tuple[int, str]:
        """Status and body."""
        return self._post("/org/get", {"organization_name": name})

    def log_in(self, name: str) -> tuple[int, str]:
        """Status and body."""
        query = urlencode({"organization_name": name})
        body = {"email": email_of(name), "password": PASSWORD}
        return self._post(f"/admin/login?{query}", body)

    def _post(self, path: str, body: dict[str, str]) -> tuple[int, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        response = self._connection.getresponse()
        return response.status, response.read().decode(errors="replace")


def email_of(name: str) -> str:
    """The first admin's e-mail address of an organization that this client signs up."""
    return f"admin@{name}.example"


def drive(
    address: str,
    call: Callable[[Client, str], tuple[int, str]],
    names: Sequence[str],
    *,
    concurrency: int,
    expected: int,
) -> Outcome:
    """Make one call for each name, `concurrency` at a time."""
    waiting: SimpleQueue[str] = SimpleQueue()
    for name in names:
        waiting.put(name)
    outcome = Outcome()

    def work() -> None:
        client = Client(address)
        while True:
            try:
                name = waiting.get_nowait()
            except Empty:
                break
            began = time.perf_counter()
            try:
                status, body = call(client, name)
            except (OSError, http.client.HTTPException) as error:
                outcome.failures.append(f"{type(error).__name__}: {error}")
                client.close()
                continue
            if status == expected:
                outcome.seconds.append(time.perf_counter() - began)
            else:
                outcome.failures.append(f"{status} {body[:200]}")
        client.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(concurrency)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.wall_seconds = time.perf_counter() - began
    return outcome


def sign_up(address: str, names: Sequence[str], *, concurrency: int = 1) -> Outcome:
    """Sign up an organization for each name."""
    return drive(address, Client.sign_up, names, concurrency=concurrency, expected=201)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harness.contract")
    parser.add_argument("address", help="as http://127.0.0.1:8000")
    parser.add_argument("--sign-ups", type=int, default=40, help="how many organizations")
    parser.add_argument("--requests", type=int, default=100, help="how many lookups and logins")
    parser.add_argument("--concurrency", type=int, default=8)
    options = parser.parse_args(arguments)
    prefix = f"load-{secrets.token_hex(4)}"
    names = [f"{prefix}-{number}" for number in range(options.sign_ups)]
    again = [names[number % len(names)] for number in range(options.requests)]
    answers = {}
    for what, call, called, expected in (
        ("sign-up", Client.sign_up, names, 201),
        ("look-up", Client.look_up, again, 200),
        ("login", Client.log_in, again, 200),
    ):
        outcome = drive(
            options.address, call, called, concurrency=options.concurrency, expected=expected
        )
        answers[what] = {
            "per_second": round(outcome.per_second, 1),
            "p50_ms": round(outcome.milliseconds(0.5), 1),
            "p95_ms": round(outcome.milliseconds(0.95), 1),
            "failures": outcome.failures[:5],
            "failed": len(outcome.failures),
        }
    print(json.dumps(answers, indent=2))
    return 1 if any(each["failed"] for each in answers.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
