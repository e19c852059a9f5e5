"""`make reset-timing`: whether the time of a password reset request reveals that an account exists.

    python -m benchmarks.reset_timing --attempts 100 --json

Asks a real gunicorn for password reset links, one request after the other, for an address with an
account, a deactivated one and an unknown one, in random order. A worker sends the mails to a slow
mail server on this machine. Two times are compared: that of the answer, and that of the requests
right after it, which would show the worker's work. Exit code 1 if the medians of either differ by
more than 10 %.
"""

import argparse
import http.client
import json
import random
import socketserver
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from benchmarks.login_timing import (
    ADMIN,
    ALLOWED_RATIO,
    INACTIVE,
    NOBODY,
    ORGANIZATION,
    REQUEST_SECONDS,
    Timing,
    largest_ratio,
    populate,
)
from tests.real_server import RealServer

KINDS = {"existing": ADMIN, "deactivated": INACTIVE, "unknown": NOBODY}
MAIL_SECONDS = 0.005
# A little longer than a worker takes to notice a mail and send it.
AFTER_SECONDS = 0.3
WARM_UP_ROUNDS = 5


class _MailServer(socketserver.StreamRequestHandler):
    """Takes every mail, slowly."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        in_data = False
        for line in self.rfile:
            if in_data and line != b".\r\n":
                continue
            command = line[:4].upper().strip()
            if in_data:
                time.sleep(MAIL_SECONDS)
                in_data, answer = False, b"250 taken"
            elif command == b"DATA":
                in_data, answer = True, b"354 go on"
            elif command == b"QUIT":
                answer = b"221 bye"
            else:
                answer = b"250 well"
            self.wfile.write(answer + b"\r\n")


@contextmanager
def mail_server() -> Iterator[int]:
    """The port of a mail server that runs during the block."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _MailServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def measure(*, attempts: int, seed: int) -> dict[str, dict[str, Timing]]:
    """Timings of each kind: of the answer, and of the requests right after it."""
    order = random.Random(seed)
    answers: dict[str, list[float]] = {kind: [] for kind in KINDS}
    after: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with mail_server() as port:
        # One process, so that each kind meets the same one.
        changes = {"EMAIL_URL": f"smtp://127.0.0.1:{port}", "WEB_CONCURRENCY": "1"}
        with (
            RealServer(environment={**changes, "THROTTLES": "off"}) as server,
            server.working(),
        ):
            populate(server)
            connection = http.client.HTTPConnection(
                "127.0.0.1", server.port, timeout=REQUEST_SECONDS
            )
            for number in range(-WARM_UP_ROUNDS, attempts):
                for kind in order.sample(list(KINDS), len(KINDS)):
                    taken, after_taken = _ask(connection, KINDS[kind]), _look_around(connection)
                    if number >= 0:
                        answers[kind].append(taken)
                        after[kind].append(after_taken)
            connection.close()
    return {
        "the answer": {kind: Timing.of(taken) for kind, taken in answers.items()},
        "those after": {kind: Timing.of(taken) for kind, taken in after.items()},
    }


def _ask(connection: http.client.HTTPConnection, email: str) -> float:
    """The seconds from the request to the end of its answer, which must be a 202."""
    body = json.dumps({"organization": ORGANIZATION, "email": email})
    began = time.perf_counter()
    path = "/api/v1/auth/password-reset/"
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    taken = time.perf_counter() - began
    assert response.status == 202, f"{email}: {response.status} {text!r}"
    return taken


def _look_around(connection: http.client.HTTPConnection) -> float:
    """The mean time of the answers in the seconds until the mail is sent."""
    began = time.perf_counter()
    asked = 0
    while time.perf_counter() - began < AFTER_SECONDS:
        connection.request("GET", "/api/v1/")
        connection.getresponse().read()
        asked += 1
    return (time.perf_counter() - began) / asked


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reset_timing")
    parser.add_argument("--attempts", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(arguments)
    if options.attempts < 2:
        parser.error("--attempts: quartiles need at least 2")
    measured = measure(attempts=options.attempts, seed=options.seed)
    ratios = {what: largest_ratio(timings) for what, timings in measured.items()}
    if options.json:
        answer = {
            what: {
                "kinds": {kind: asdict(timing) for kind, timing in timings.items()},
                "largest_ratio": round(ratios[what], 4),
            }
            for what, timings in measured.items()
        }
        print(json.dumps({**answer, "allowed": ALLOWED_RATIO, "seed": options.seed}, indent=2))
    else:
        for what, timings in measured.items():
            for kind, each in timings.items():
                quartiles = f"{each.first_quartile_ms:.2f} to {each.third_quartile_ms:.2f}"
                print(f"{what:<14}{kind:<14}{each.median_ms:>9.2f} ms   ({quartiles})")
            print(f"{what:<14}largest ratio of medians: {ratios[what]:.3f}")
    return 0 if max(ratios.values()) <= ALLOWED_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
