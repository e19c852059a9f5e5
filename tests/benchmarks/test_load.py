"""Tests of the load generators: the contract client, and wrk with its script."""

import http.server
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from benchmarks.harness import contract, wrk
from benchmarks.harness.wrk import Request

pytestmark = pytest.mark.pure


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers like the product; /org/get of a name that begins with `no` is a 404."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []

    def do_GET(self) -> None:
        self.answer(200)

    def do_POST(self) -> None:
        if self.path == "/org/create":
            self.answer(201)
        else:
            self.answer(200)

    def answer(self, status: int) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if b'": "no' in body:
            status = 404
        self.seen.append((self.command, self.path, dict(self.headers), body))
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    Handler.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_sign_ups_are_made_once_each_at_the_concurrency_asked_for(address: str) -> None:
    names = [f"load-{number}" for number in range(20)]
    outcome = contract.sign_up(address, names, concurrency=4)

    assert (len(outcome.seconds), outcome.failures) == (20, [])
    sent = [json.loads(body) for _, _, _, body in Handler.seen]
    assert sorted(each["organization_name"] for each in sent) == sorted(names)
    assert set(sent[0]) == {"organization_name", "email", "password"}


def test_what_is_not_answered_as_expected_is_a_failure_and_no_time(address: str) -> None:
    outcome = contract.drive(
        address, contract.Client.look_up, ["yes", "nobody"], concurrency=1, expected=200
    )
    assert len(outcome.seconds) == 1
    assert [each[:3] for each in outcome.failures] == ["404"]

    gone = contract.sign_up("http://127.0.0.1:9", ["one", "two"])
    assert len(gone.failures) == 2
    assert "ConnectionRefused" in gone.failures[0]


def test_the_client_drives_the_whole_contract(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = contract.main([address, "--sign-ups", "3", "--requests", "6", "--concurrency", "2"])
    told = json.loads(capsys.readouterr().out)

    assert code == 0
    assert list(told) == ["sign-up", "look-up", "login"]
    paths = Counter(path.partition("?")[0] for _, path, _, _ in Handler.seen)
    assert paths == {"/org/create": 3, "/org/get": 6, "/admin/login": 6}


def test_errors_do_not_count_as_speed() -> None:
    load = wrk.parse(
        'Running 1s test\n\n{"requests": 1000, "microseconds": 2000000, "failed_statuses": 400, '
        '"failed_sockets": 2, "p50_us": 1500, "p99_us": 9000}\n'
    )
    assert (load.per_second, load.requests, load.errors) == (300.0, 1000, 402)
    assert (load.p50_ms, load.p99_ms) == (1.5, 9.0)


@pytest.mark.bench
def test_wrk_sends_what_the_file_says(address: str, tmp_path: Path) -> None:
    file = tmp_path / "requests"
    first = Request("GET", "/api/v1/me/", host="a.example", authorization="Bearer abc")
    wrk.write_requests(file, [first, Request("POST", "/org/get", body='{"name": "x"}')])
    load = wrk.run(address, file, connections=2, seconds=1, count=2)

    assert load.errors == 0 and load.requests > 10
    for method, path, headers, body in Handler.seen:
        if method == "GET":
            assert (path, headers["Host"]) == ("/api/v1/me/", "a.example")
            assert headers["Authorization"] == "Bearer abc"
        else:
            assert (path, body) == ("/org/get", b'{"name": "x"}')
            assert headers["Content-Type"] == "application/json"
    assert {method for method, *_ in Handler.seen} == {"GET", "POST"}
    assert file.stat().st_mode & 0o077 == 0, "it holds tokens"


@pytest.mark.bench
def test_wrk_chooses_among_the_first_count_uniformly_or_by_zipf(
    address: str, tmp_path: Path
) -> None:
    file = tmp_path / "requests"
    wrk.write_requests(file, [Request("GET", f"/{number}") for number in range(1, 21)])
    shares: dict[wrk.Distribution, dict[str, float]] = {}
    kinds: tuple[wrk.Distribution, ...] = ("uniform", "zipf")
    for kind in kinds:
        Handler.seen.clear()
        wrk.run(address, file, connections=4, seconds=1, count=10, distribution=kind)
        counted = Counter(path for _, path, _, _ in Handler.seen)
        shares[kind] = {path: count / counted.total() for path, count in counted.items()}

    wanted = 1 / sum(1 / rank**1.1 for rank in range(1, 11))
    assert set(shares["uniform"]) == {f"/{number}" for number in range(1, 11)}
    assert all(0.04 < share < 0.17 for share in shares["uniform"].values())
    assert abs(shares["zipf"]["/1"] - wanted) < 0.08
    assert shares["zipf"]["/1"] > 1.5 * shares["zipf"]["/2"]
