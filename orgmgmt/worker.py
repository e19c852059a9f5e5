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

# For how long a new connection may say nothing; a kept one has gunicorn's `keepalive`.
_FIRST_BYTE_SECONDS = 5.0
# For how long a header may take from its first byte to its last, and how large it may be.
_HEADER_SECONDS = 10.0
_HEADER_BYTES = 65_536
_HEADER_END = b"\r\n\r\n"
# For how long a closed connection is still read from, so that the answer reaches its client.
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 65_536
# What is wrong with a request that gunicorn cannot read, by the status that it chooses.
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
    """Stands for the socket that gunicorn writes its answer to (util.py, write_error)."""

    def __init__(self) -> None:
        self.status = 500

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self.status = int(data.split(b" ", 2)[1])


def _read_ahead(conn: TConn) -> io.BytesIO:
    """What has come over the connection and was no part of a request yet."""
    buffer: io.BytesIO = conn.parser.unreader.buf  # type: ignore[union-attr]
    return buffer


class Worker(ThreadWorker):
    """Gives a request to a thread once its header is there, and ends its connection where it takes
    longer than REQUEST_TIMEOUT_SECONDS from then on.

    However the time passes: a body that comes byte by byte, an answer that nobody reads. What the
    request does in the database has limits of its own (orgmgmt/limits.py).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Written by the pool's threads, read by the main one: each step is one of dict's own.
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
                # Not close(): the thread that waits for it would wait on, for a number that the
                # next connection may be given.
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR)
        for conn, (deadline, _) in list(self._lingering.items()):
            if now > deadline:
                self._let_go(conn)

    def accept(self, listener: socket.socket) -> None:
        """Take a connection in. gunicorn lets a thread wait for its first byte, 5 s long."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        conn = TConn(self.cfg, client, address, listener.getsockname())
        self._await_header(conn, seconds=_FIRST_BYTE_SECONDS)

    def _await_header(self, conn: TConn, *, seconds: float) -> None:
        """Watch the connection here, where it costs no thread, until it has sent a header."""
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + seconds
        self.pending_conns.append(conn)
        self.poller.register(
            conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn)
        )

    def on_pending_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Take in what has come of a header; with its end the request goes to a thread."""
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
        """A kept connection begins its next request."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_header(conn, seconds=_FIRST_BYTE_SECONDS)
        self.on_pending_socket_readable(conn, client)

    def murder_pending(self) -> None:
        """Close whoever has had time enough. All of them are looked at: they have not one limit."""
        now = time.monotonic()
        for conn in [each for each in self.pending_conns if (each.timeout or 0) <= now]:
            self.pending_conns.remove(conn)
            with suppress(OSError, KeyError, ValueError):
                self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            conn.close()

    def finish_request(self, conn: TConn, fs: Future[bool]) -> None:
        """As gunicorn's; but where it would wait for the client, it goes on with its work."""
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
            # The answer's end; what the client still sends is read until it closes, since a
            # connection that is closed over unread data takes the answer with it (RFC 9112, 9.6).
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
            self._lingering[conn] = (time.monotonic() + _LINGER_SECONDS, 0)
        except (OSError, ValueError, KeyError):
            self.nr_conns -= 1
            conn.close()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what is no request at all as everything else is answered.

        gunicorn logs it and chooses the status; its own answer would be a page without headers that
        repeats what was sent.
        """
        from .exceptions import body  # It needs the apps, which are there before a request is.

        answer = _Answer()
        super().handle_error(req, answer, addr, exc)  # type: ignore[arg-type]
        # 501 is for a Transfer-Encoding: the client's fault all the same.
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
