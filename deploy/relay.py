"""Forwards a TCP port of 127.0.0.1 to a unix socket.

The embedded PostgreSQL has only a private unix socket; a container's user reaches it through this.
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def relay(target: Path) -> Iterator[int]:
    """Opens the port, yields its number, and closes it at the end."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as upstream:
                upstream.connect(str(target))
                back = threading.Thread(target=_pass_on, args=(upstream, self.request))
                back.start()
                _pass_on(self.request, upstream)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    """Copies until one side closes, then closes the other for writing."""
    # Either side may close at any time; that ends the connection and is not an error.
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_WR)
