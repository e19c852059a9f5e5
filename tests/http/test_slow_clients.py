"""Slow clients of a server with one thread: the others are served."""

import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from .server import WebServer, assert_no_traceback, serving

LIMIT_SECONDS = 2
# More than one thread could serve one after the other within the time a test has, if each of these
# clients could keep it for as long as gunicorn's own worker lets it.
MANY = 40
# A file of a megabyte.
BUNDLE = "/static/drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js"


@pytest.fixture(scope="module")
def single(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A gunicorn with one thread, and little time for each request."""
    log = tmp_path_factory.mktemp("gunicorn") / "slow.log"
    with serving(
        log,
        WEB_CONCURRENCY="1",
        WEB_THREADS="1",
        REQUEST_TIMEOUT_SECONDS=str(LIMIT_SECONDS),
    ) as running:
        yield running
    assert_no_traceback(running)


def connect(server: WebServer, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))


def drip(connection: socket.socket, byte: bytes) -> None:
    """Send byte after byte, until the server closes the connection."""
    with suppress(BrokenPipeError, ConnectionResetError):
        while True:
            connection.sendall(byte)
            time.sleep(0.1)


def read_answer(connection: socket.socket) -> None:
    response = http.client.HTTPResponse(connection)
    response.begin()
    assert b"healthy" in response.read()


HEADERS = b"POST /org/get HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_a_request_that_never_ends_is_ended(single: WebServer) -> None:
    body = HEADERS + b"Content-Length: 5000\r\n\r\n{"

    def linger(beginning: bytes, byte: bytes) -> None:
        with socket.create_connection(("127.0.0.1", single.port), timeout=30) as slow:
            slow.sendall(beginning)
            if byte:
                drip(slow, byte)
            # Nothing, or an error: never an answer to a request that was not sent to its end.
            with suppress(ConnectionResetError):
                assert b" 200 " not in slow.recv(4096), (beginning, byte)
            assert single.get("/health", timeout=30).status_code == 200

    with ThreadPoolExecutor(4) as pool:
        heads = [(b"GET /health HT", b""), (HEADERS + b"X-Slow: ", b"a")]
        for done in [pool.submit(linger, *each) for each in (*heads, (body, b" "), (body, b""))]:
            done.result()


def test_a_response_that_nobody_reads_is_ended(single: WebServer) -> None:
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(30)
        deaf.connect(("127.0.0.1", single.port))
        # As many answers as fill the buffers of both sides.
        with suppress(BrokenPipeError, ConnectionResetError):
            deaf.sendall(f"GET {BUNDLE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 50)
        time.sleep(LIMIT_SECONDS)
        assert single.get("/health", timeout=30).status_code == 200


def test_silent_connections_take_no_thread(single: WebServer) -> None:
    with ExitStack() as stack:
        for _ in range(MANY):
            connect(single, stack)
        assert single.get("/health", timeout=30).status_code == 200


def test_connections_in_the_middle_of_a_header_take_no_thread(single: WebServer) -> None:
    """On a new connection, on a kept one, and after a request in the same packet."""
    kept = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        slow = [connect(single, stack) for _ in range(MANY)]
        for number, connection in enumerate(slow):
            connection.sendall((b"", kept, kept)[number % 3] + HEADERS * (number % 3 != 1))
        for connection in slow[1::3]:
            read_answer(connection)
            connection.sendall(HEADERS)
        assert single.get("/health", timeout=30).status_code == 200


def test_a_header_without_an_end_is_refused(single: WebServer) -> None:
    with ExitStack() as stack:
        slow = connect(single, stack)
        with suppress(BrokenPipeError, ConnectionResetError):
            slow.sendall(HEADERS + b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 3_000)
        assert slow.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_clients_that_never_hang_up_block_nobody(single: WebServer) -> None:
    with ExitStack() as stack:
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        for _ in range(MANY):
            connect(single, stack).sendall(request)
        assert single.get("/health", timeout=30).status_code == 200


def test_a_kept_connection_is_served_for_longer_than_one_request_may_take(
    single: WebServer,
) -> None:
    patient = http.client.HTTPConnection("127.0.0.1", single.port, timeout=30)
    patient.connect()
    first = patient.sock
    end = time.monotonic() + LIMIT_SECONDS + 1.5
    while time.monotonic() < end:
        patient.request("GET", "/health")
        assert b"healthy" in patient.getresponse().read()
        time.sleep(0.2)
    assert patient.sock is first, "it was ended, and opened again"
    patient.close()


def test_a_body_that_is_refused_unread_leaves_its_answer_readable(single: WebServer) -> None:
    head = HEADERS + b"Content-Length: 3000000\r\n\r\n"
    assert single.raw(head + b" " * 3_000_000).status == 413
