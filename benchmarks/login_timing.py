"""`make login-timing`: whether the time of a refused login reveals why it was refused.

The server has ORG_PUBLIC_LOOKUP=off, so an organization that does not exist or is suspended gets
the same answer as a wrong password.

    python -m benchmarks.login_timing --attempts 200 --json

Sends one login after the other to a real gunicorn on an embedded PostgreSQL. Each round has one
attempt of each kind in random order, so that a slow moment of the machine affects all kinds. Exit
code 1 if the medians differ by more than 10 %.
"""

import argparse
import http.client
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlencode

import requests

from tests.real_server import RealServer

ORGANIZATION = "Timing"
ADMIN, INACTIVE, NOBODY = (f"{who}@timing.example" for who in ("admin", "inactive", "nobody"))
PASSWORD, WRONG_PASSWORD = "the right passphrase", "another passphrase"
SUSPENDED = "Timing Suspended"
# The organization, and what is sent to it.
KINDS = {
    "wrong e-mail": (ORGANIZATION, {"email": NOBODY, "password": PASSWORD}),
    "wrong password": (ORGANIZATION, {"email": ADMIN, "password": WRONG_PASSWORD}),
    "inactive user": (ORGANIZATION, {"email": INACTIVE, "password": PASSWORD}),
    "no organization": ("Timing Nobody", {"email": ADMIN, "password": PASSWORD}),
    "suspended": (SUSPENDED, {"email": ADMIN, "password": PASSWORD}),
}
_SUSPEND = (
    "from organizations import lifecycle; from organizations.models import Organization; "
    f"lifecycle.suspend_organization(Organization.objects.get(name={SUSPENDED!r}))"
)
ATTEMPTS = 200
WARM_UP_ROUNDS = 20
ALLOWED_RATIO = 1.10
REQUEST_SECONDS = 30.0


@dataclass(frozen=True)
class Timing:
    """How long one kind of refused login took, in milliseconds."""

    attempts: int
    median_ms: float
    first_quartile_ms: float
    third_quartile_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        first, median, third = (1000 * each for each in statistics.quantiles(seconds, n=4))
        return cls(len(seconds), round(median, 3), round(first, 3), round(third, 3))


def largest_ratio(timings: dict[str, Timing]) -> float:
    """The slowest kind's median divided by the fastest kind's."""
    medians = [timing.median_ms for timing in timings.values()]
    return max(medians) / min(medians)


def measure(*, attempts: int, seed: int, environment: dict[str, str]) -> dict[str, Timing]:
    """The timing of each kind, on a server made for it."""
    order = random.Random(seed)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with RealServer(environment={"ORG_PUBLIC_LOOKUP": "off"} | environment) as server:
        populate(server)
        _suspend_another(server)
        # Kept open: the time to connect is not part of the answer.
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=REQUEST_SECONDS)
        for number in range(-WARM_UP_ROUNDS, attempts):
            for kind in order.sample(list(KINDS), len(KINDS)):
                taken = _attempt(connection, kind)
                if number >= 0:
                    seconds[kind].append(taken)
        connection.close()
    return {kind: Timing.of(taken) for kind, taken in seconds.items()}


def _suspend_another(server: RealServer) -> None:
    created, answer = server.sign_up(SUSPENDED, email=ADMIN, password=PASSWORD)
    assert created == 201, answer
    server.manage("shell", "--verbosity", "0", "-c", _SUSPEND)


def populate(server: RealServer) -> None:
    """Create an organization with an admin and a deactivated user."""
    created, answer = server.sign_up(ORGANIZATION, email=ADMIN, password=PASSWORD)
    assert created == 201, answer
    status, login = server.log_in(ORGANIZATION, email=ADMIN, password=PASSWORD)
    assert status == 200, login
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {login['access_token']}"
    users = f"{server.address}/api/v1/users/"
    # An admin, so that nothing but the deactivation is in the way of a login.
    added = session.post(
        users,
        json={"email": INACTIVE, "password": PASSWORD, "is_admin": True},
        timeout=REQUEST_SECONDS,
    )
    assert added.status_code == 201, added.text
    changed = session.patch(
        f"{users}{added.json()['id']}/", json={"is_active": False}, timeout=REQUEST_SECONDS
    )
    assert changed.status_code == 200, changed.text


def _attempt(connection: http.client.HTTPConnection, kind: str) -> float:
    """The seconds from the request to the end of its answer, which must be a 401."""
    organization, credentials = KINDS[kind]
    body = json.dumps(credentials)
    path = f"/admin/login?{urlencode({'organization_name': organization})}"
    began = time.perf_counter()
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    taken = time.perf_counter() - began
    assert response.status == 401, f"{kind}: {response.status} {text!r}"
    return taken


def _show(timings: dict[str, Timing], ratio: float, seed: int) -> None:
    print(f"{'kind':<16}{'attempts':>9}{'median ms':>12}{'quartiles ms':>20}")
    for kind, timing in timings.items():
        quartiles = f"{timing.first_quartile_ms:.2f} to {timing.third_quartile_ms:.2f}"
        print(f"{kind:<16}{timing.attempts:>9}{timing.median_ms:>12.2f}{quartiles:>20}")
    verdict = "within" if ratio <= ALLOWED_RATIO else "MORE THAN"
    print(f"largest ratio of medians: {ratio:.3f}, {verdict} {ALLOWED_RATIO:.2f} (seed {seed})")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.login_timing")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    parser.add_argument("--floor", type=int, metavar="MS", help="LOGIN_FLOOR_MS of the server")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(arguments)
    if options.attempts < 2:
        parser.error("--attempts: quartiles need at least 2")
    environment = {} if options.floor is None else {"LOGIN_FLOOR_MS": str(options.floor)}
    timings = measure(attempts=options.attempts, seed=options.seed, environment=environment)
    ratio = largest_ratio(timings)
    if options.json:
        kinds = {kind: asdict(timing) for kind, timing in timings.items()}
        answer = {"kinds": kinds, "largest_ratio": round(ratio, 4), "allowed": ALLOWED_RATIO}
        print(json.dumps(answer | {"seed": options.seed}, indent=2))
    else:
        _show(timings, ratio, options.seed)
    return 0 if ratio <= ALLOWED_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
