"""gunicorn worker that limits how long a client can occupy a thread.

Relies on gunicorn 27, workers/gthread.py, ThreadWorker: `handle` serves one request in a thread of
the pool; `wait_for_and_dispatch_events` is called by the main thread at least once a second, also
while the worker stops; `pending_conns` are watched by the main thread until data comes, and closed
at their `timeout` (on_pending_socket_readable, murder_pending), kept ones likewise
(on_client_socket_readable); what is read ahead is in the parser's `unreader.buf`
(http/unreader.py); `finish_request` runs in the main thread and ends with
TConn.close(graceful=True), which waits for the client for up to 2 s.
tests/http/test_slow_clients.py fails if a new version differs.
"""

import io
import json
import selectors
import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from django.conf import settings
from gunicorn.http import get_parser
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.workers.gthread import TConn, ThreadWorker

from .headers import ALWAYS, NOTHING

# How long a new connection may stay silent; a kept one has gunicorn's `keepalive`.
_FIRST_BYTE_SECONDS = 5.0
# How long a header may take from its first byte to its last, and its maximum size.
_HEADER_SECONDS = 10.0
_HEADER_BYTES = 65_536
_HEADER_END = b"\r\n\r\n"
# How long a closed connection is still read from, so that the response reaches its client.
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 65_536
# Errors for requests that gunicorn cannot parse, by the status that it chooses.
_UNREADABLE = {
    414: ("The URL is too long. Shorten its query.", "address_too_long"),
    431: ("The headers are too large. Send fewer or shorter ones.", "headers_too_large"),
    500: ("Something went wrong on our side.", "error"),
}
_NO_REQUEST = (
    "The request is not valid HTTP. Check its first line and headers.",
    "bad_request",
)


class _Answer:
    """A stand-in for the socket that gunicorn writes its response to (util.py, write_error)."""

    def __init__(self) -> None:
        self.status = 500

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self.status = int(data.split(b" ", 2)[1])


def _read_ahead(conn: TConn) -> io.BytesIO:
    """Received bytes that do not belong to a request yet."""
    buffer: io.BytesIO = conn.parser.unreader.buf  # type: ignore[union-attr]
    return buffer


class Worker(ThreadWorker):
    """Gives a request to a thread once its header is complete, and closes the connection if it then
    takes longer than REQUEST_TIMEOUT_SECONDS.

    For example a body that comes byte by byte, or a response that nobody reads. Database queries
    have their own limits (orgmgmt/edge/timeouts.py).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Written by pool threads, read by the main thread: each step is one atomic dict operation.
        self._under_way: dict[TConn, float] = {}
        self._lingering: dict[TConn, tuple[float, int]] = {}

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop as for SIGTERM. gunicorn's own raises SystemExit wherever the main thread is: inside
        Condition.wait() that leaves a lock released twice, and a traceback in the log.
        """
        self.handle_exit(sig, frame)

    def handle(self, conn: TConn) -> bool:
        self._under_way[conn] = time.monotonic()
        try:
            head = _read_ahead(conn).getvalue()
            if len(head) > _HEADER_BYTES and _HEADER_END not in head:
                raise LimitRequestHeaders("limit request headers fields size")
            return super().handle(conn)
        except LimitRequestHeaders as error:
            self.handle_error(None, conn.sock, conn.client, error)
            return False
        finally:
            self._under_way.pop(conn, None)

    def wait_for_and_dispatch_events(self, timeout: float | None) -> None:
        super().wait_for_and_dispatch_events(timeout)
        now = time.monotonic()
        for conn, began in list(self._under_way.items()):
            if now - began > settings.REQUEST_TIMEOUT_SECONDS:
                # Not close(): the waiting thread would continue to wait for a file descriptor that
                # the next connection may get.
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR)
        for conn, (deadline, _) in list(self._lingering.items()):
            if now > deadline:
                self._let_go(conn)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection. gunicorn would let a thread wait 5 s for its first byte."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        conn = TConn(self.cfg, client, address, listener.getsockname())
        self._await_header(conn, seconds=_FIRST_BYTE_SECONDS)

    def _await_header(self, conn: TConn, *, seconds: float) -> None:
        """Watch the connection in the main thread until its header is complete."""
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + seconds
        self.pending_conns.append(conn)
        self.poller.register(
            conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn)
        )

    def on_pending_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Read more of a header; when it is complete the request goes to a thread."""
        try:
            data = client.recv(8192)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if conn.parser is None:
            conn.parser = get_parser(self.cfg, client, conn.client)
        read = _read_ahead(conn)
        begun = read.seek(0, io.SEEK_END) > 0
        read.write(data)
        if data and len(head := read.getvalue()) <= _HEADER_BYTES and _HEADER_END not in head:
            if not begun:
                limit = min(_HEADER_SECONDS, settings.REQUEST_TIMEOUT_SECONDS)
                conn.timeout = time.monotonic() + limit
            return
        super().on_pending_socket_readable(conn, client)

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """A kept connection starts its next request."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_header(conn, seconds=_FIRST_BYTE_SECONDS)
        self.on_pending_socket_readable(conn, client)

    def murder_pending(self) -> None:
        """Close connections whose time is up. Checks all, since their limits differ."""
        now = time.monotonic()
        for conn in [each for each in self.pending_conns if (each.timeout or 0) <= now]:
            self.pending_conns.remove(conn)
            with suppress(OSError, KeyError, ValueError):
                self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            conn.close()

    def finish_request(self, conn: TConn, fs: Future[bool]) -> None:
        """As gunicorn's, without waiting for the client."""
        try:
            keep = not fs.cancelled() and fs.result()
        except Exception:
            keep = False
        if keep:
            ahead = _read_ahead(conn).getvalue()
            if ahead and _HEADER_END not in ahead:
                # Part of the next request came with this one.
                self._await_header(conn, seconds=_HEADER_SECONDS)
            else:
                super().finish_request(conn, fs)
            return
        try:
            # The response is complete. Keep reading until the client closes, since closing a
            # connection with unread data can destroy the response (RFC 9112, 9.6).
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
            self._lingering[conn] = (time.monotonic() + _LINGER_SECONDS, 0)
        except (OSError, ValueError, KeyError):
            self.nr_conns -= 1
            conn.close()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer an unparsable request in our format.

        gunicorn logs it and chooses the status; its own response would be a page without our
        headers that repeats the input.
        """
        from .exceptions import body  # Needs the apps, which are loaded before the first request.

        answer = _Answer()
        super().handle_error(req, answer, addr, exc)  # type: ignore[arg-type]
        # 501 is for a Transfer-Encoding, which is the client's fault too.
        status = 400 if answer.status == 501 else answer.status
        content = json.dumps(body(*_UNREADABLE.get(status, _NO_REQUEST))).encode()
        headers = {
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **ALWAYS,
            "Content-Security-Policy": NOTHING,
        }
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with suppress(OSError):
            client.sendall("\r\n".join([*lines, "", ""]).encode() + content)

    def _drain(self, conn: TConn, client: socket.socket) -> None:
        deadline, drained = self._lingering[conn]
        try:
            data = client.recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._lingering[conn] = (deadline, drained + len(data))
        if not data or drained > _LINGER_BYTES:
            self._let_go(conn)

    def _let_go(self, conn: TConn) -> None:
        del self._lingering[conn]
        with suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()
