"""Runs wrk with requests from a file that requests.lua reads."""

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SCRIPT = Path(__file__).with_name("requests.lua")
Distribution = Literal["uniform", "zipf"]


class WrkFailed(Exception):
    """wrk is not installed, or measured nothing."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. host, authorization, body: left out if empty."""

    method: str
    path: str
    host: str = ""
    authorization: str = ""
    body: str = ""

    @property
    def line(self) -> str:
        return "\t".join((self.method, self.path, self.host, self.authorization, self.body))


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted. errors: answers other than 2xx and 3xx, and failed connections."""

    per_second: float
    requests: int
    errors: int
    p50_ms: float
    p99_ms: float


def write_requests(file: Path, requests: Iterable[Request]) -> None:
    """Write the file for requests.lua. It has tokens, so only its owner may read it."""
    file.touch(mode=0o600)
    file.write_text("".join(f"{request.line}\n" for request in requests))


def touch(address: str, file: Path, count: int) -> None:
    """Send each of the first `count` requests of the file once, one after the other."""
    host = address.removeprefix("http://")
    for line in file.read_text().splitlines()[:count]:
        method, path, _, authorization, _ = line.split("\t")
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request(method, path, headers={"Authorization": authorization})
        connection.getresponse().read()
        connection.close()


def run(
    address: str,
    file: Path,
    *,
    connections: int,
    seconds: int,
    count: int,
    distribution: Distribution = "uniform",
    seed: int = 1,
) -> Load:
    """Keep `connections` requests going for so many seconds. Raises WrkFailed."""
    found = shutil.which("wrk")
    if found is None:
        raise WrkFailed("wrk is not installed. On Debian, as root: apt-get install wrk.")
    command = [found, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-s", str(SCRIPT), address, "--", str(file), str(count), distribution, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    try:
        return parse(done.stdout)
    except (ValueError, KeyError, IndexError) as error:
        raise WrkFailed(f"wrk: {done.stdout[-500:]}{done.stderr[-500:]}") from error


def parse(printed: str) -> Load:
    """The last line of what requests.lua prints. Raises ValueError and KeyError."""
    told = json.loads(printed.strip().splitlines()[-1])
    answered = told["requests"] - told["failed_statuses"]
    return Load(
        # Errors are quick to answer, so only successes count.
        per_second=answered / (told["microseconds"] / 1e6),
        requests=told["requests"],
        errors=told["failed_statuses"] + told["failed_sockets"],
        p50_ms=told["p50_us"] / 1000,
        p99_ms=told["p99_us"] / 1000,
    )
