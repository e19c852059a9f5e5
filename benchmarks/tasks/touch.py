"""Serves one request of each organization in turn in one process, and prints its memory.

    python -m benchmarks.tasks.touch --file FILE --organizations 3000

FILE holds the requests of benchmarks.tasks.tokens. They go through the whole WSGI application, as
a worker calls it, from as many threads as a worker has. At each twelfth of the organizations it
prints its resident memory as a line of JSON and waits for a line on standard input.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from django.conf import settings

from benchmarks.harness.web import THREADS, rss_bytes


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--organizations", type=int, required=True)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args(arguments)
    from orgmgmt.wsgi import application

    requests = [line.split("\t") for line in options.file.read_text().splitlines()]
    requests = requests[: options.organizations]
    print(json.dumps({"ceiling": settings.ORG_MAX_CONNECTIONS}), flush=True)
    each = max(1, len(requests) // options.steps)
    with ThreadPoolExecutor(THREADS) as pool:
        for begin in range(0, len(requests), each):
            batch = requests[begin : begin + each]
            for status in pool.map(lambda request: call(application, request), batch):
                if status != 200:
                    print(f"answered {status}", file=sys.stderr)
                    return 1
            print(
                json.dumps({"organizations": begin + len(batch), "rss": rss_bytes(os.getpid())}),
                flush=True,
            )
            # The reader of the line counts the connections, then lets this continue.
            if sys.stdin.readline() == "":
                return 1
    return 0


def call(application: Callable[..., Iterable[bytes]], request: Sequence[str]) -> int:
    """Make one request, read the answer to its end, and return its status."""
    method, path, _, authorization, _ = request
    status: list[int] = []

    def start_response(line: str, headers: Any, exc_info: Any = None) -> None:
        status.append(int(line.split()[0]))

    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "HTTP_HOST": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_ACCEPT": "application/json",
        "HTTP_AUTHORIZATION": authorization,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    answer = application(environ, start_response)
    try:
        for _ in answer:
            pass
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    return status[0]


if __name__ == "__main__":
    sys.exit(main())
