"""`make restore-storm`: restores an organization while clients write to it, and counts.

    python -m tests.faults.restore_storm --seconds 60

Four clients add users to one organization of two processes. A third of the way it is backed up,
two thirds on it is restored; at the end the restore is undone, to read what was kept. Every
acknowledged write is in the previous or the current database. One acknowledged before the backup
began is in both, one that was sent after the restore is in the new one; and once the new one has
answered, the old one answers nothing. Anything else is a fault, and so is an answer but 201, 401
(the login has ended) and 503. Exit code 1 if there is a fault.
"""

import argparse
import http.client
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from tests.real_server import RealServer

THREADS = 4
NAME, EMAIL, PASSWORD = "Restored", "admin@storm.example", "storm and stress 42"
REQUESTS_A_CONNECTION = 20
PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Write:
    """An acknowledged user. Times by time.monotonic()."""

    email: str
    began: float
    ended: float


@dataclass
class Outcome:
    """answers: by status. kept, live: of the acknowledged writes, those in the old database alone,
    and in the new one alone. gap: the longest time between two acknowledged writes."""

    answers: Counter[int] = field(default_factory=Counter)
    acknowledged: int = 0
    kept: int = 0
    live: int = 0
    gap: float = 0.0
    restore_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class Storm:
    """Four clients, and the commands of an operator."""

    def __init__(self, server: RealServer, *, seconds: float) -> None:
        self._server = server
        self._seconds = seconds
        self._writes: list[Write] = []
        self._outcome = Outcome()
        self._lock = threading.Lock()
        self._over = threading.Event()

    def run(self) -> Outcome:
        status, _ = self._server.sign_up(NAME, email=EMAIL, password=PASSWORD)
        assert status == 201, status
        threads = [threading.Thread(target=self._write, args=(each,)) for each in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(self._seconds / 3)
            backed_up = time.monotonic()
            self._server.manage("backup_orgs", NAME)
            time.sleep(self._seconds / 3)
            restoring = time.monotonic()
            self._server.manage("restore_org", NAME, "--yes")
            restored = time.monotonic()
            time.sleep(self._seconds / 3)
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        self._outcome.restore_seconds = restored - restoring
        live = self._users()
        self._server.manage("restore_org", NAME, "--undo", "--yes")
        judge(self._outcome, self._writes, live, self._users(), backed_up, restored)
        return self._outcome

    def _users(self) -> set[str]:
        """The addresses in the database that serves now."""
        (row,) = json.loads(self._server.manage("list_orgs", "--json"))["organizations"]
        where = self._server.postgres.superuser_parameters(row["database"])
        with psycopg.connect(**where) as connection:  # type: ignore[arg-type]
            return {str(email) for (email,) in connection.execute("SELECT email FROM users")}

    def _write(self, thread: int) -> None:
        number, token = 0, self._token()
        while not self._over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
            for _ in range(REQUESTS_A_CONNECTION):
                number += 1
                email = f"user{thread}-{number}@storm.example"
                began = time.monotonic()
                status = _add(connection, token, email)
                ended = time.monotonic()
                with self._lock:
                    self._outcome.answers[status] += 1
                    if status == 201:
                        self._writes.append(Write(email, began, ended))
                    elif status not in (401, 503):
                        self._outcome.faults.append(f"{email}: answered {status}")
                if status == 401:
                    token = self._token()
                time.sleep(PAUSE_SECONDS)
            connection.close()

    def _token(self) -> str:
        """A new log-in's; the log-in of before a restore is void."""
        body = {"organization": NAME, "email": EMAIL, "password": PASSWORD}
        while True:
            status, login = self._server.post("/api/v1/auth/token/", body)
            if status == 200:
                return str(login["access"])
            with self._lock:
                self._outcome.answers[status] += 1
                if status != 503:
                    self._outcome.faults.append(f"a login was answered {status}")
                    return ""
            time.sleep(PAUSE_SECONDS)


def judge(
    outcome: Outcome,
    writes: Sequence[Write],
    live: set[str],
    kept: set[str],
    backed_up: float,
    restored: float,
) -> None:
    """Count, and find what was lost. backed_up: when the backup began; restored: when the restore
    had ended."""
    writes = sorted(writes, key=lambda write: write.ended)
    outcome.acknowledged = len(writes)
    old = [write for write in writes if write.email in kept - live]
    new = [write for write in writes if write.email in live - kept]
    outcome.kept, outcome.live = len(old), len(new)
    times = [write.ended for write in writes]
    outcome.gap = max((b - a for a, b in zip(times, times[1:], strict=False)), default=0.0)
    first = min((write.ended for write in new), default=float("inf"))
    for write in writes:
        if write.email not in live | kept:
            outcome.faults.append(f"{write.email} is lost")
        elif write.ended < backed_up and write.email not in live & kept:
            outcome.faults.append(f"{write.email} of before the backup is not in both")
        elif write.began > restored and write.email not in live:
            outcome.faults.append(f"{write.email} of after the restore is not there")
    for write in old:
        if write.began > first:
            outcome.faults.append(f"{write.email} was answered by the old database after the new")


def _add(connection: http.client.HTTPConnection, token: str, email: str) -> int:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"email": email, "password": PASSWORD})
    connection.request("POST", "/api/v1/users/", body, headers)
    response = connection.getresponse()
    response.read()
    return response.status


def run(*, seconds: float) -> Outcome:
    """Run the storm against gunicorn with 2 processes."""
    with RealServer(environment={"WEB_CONCURRENCY": "2", "WEB_THREADS": "4"}) as server:
        return Storm(server, seconds=seconds).run()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.restore_storm")
    parser.add_argument("--seconds", type=float, default=60.0, help="of writes (default: 60)")
    outcome = run(seconds=parser.parse_args(arguments).seconds)
    for what, count in (
        *((f"answered {status}", count) for status, count in sorted(outcome.answers.items())),
        ("writes acknowledged", outcome.acknowledged),
        ("of these in the new one alone", outcome.live),
        ("in the old one alone, kept", outcome.kept),
        ("longest time without one, in ms", round(1_000 * outcome.gap)),
        ("restore_org in all, in ms", round(1_000 * outcome.restore_seconds)),
        ("faults", len(outcome.faults)),
    ):
        print(f"{what:<32}  {count:>8}")
    for fault in outcome.faults[:20]:
        print(fault)
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
