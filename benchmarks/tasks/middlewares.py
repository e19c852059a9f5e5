"""Times a request with each middleware and without it, in turns in one process.

    python -m benchmarks.tasks.middlewares --file FILE --calls 10000

FILE holds the requests of benchmarks.tasks.tokens. Prints one JSON document: for each middleware
the processor time of a request with all of them and without it, in microseconds of this process.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tasks.touch import call

Application = Callable[..., Iterable[bytes]]
TURNS = 50


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=10_000)
    options = parser.parse_args(arguments)
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application

    requests = [line.split("\t") for line in options.file.read_text().splitlines()]
    whole = get_wsgi_application()
    told: dict[str, Any] = {}
    for name in settings.MIDDLEWARE:
        without = _without(name)
        if call(without, requests[0]) != 200:
            told[name] = None  # The request needs it.
            continue
        each = max(1, options.calls // TURNS)
        pairs = [
            (_microseconds(whole, requests, each), _microseconds(without, requests, each))
            for _ in range(TURNS)
        ]
        told[name] = {
            "with_us": statistics.median(with_it for with_it, _ in pairs),
            "adds_us": statistics.median(with_it - without for with_it, without in pairs),
        }
    print(json.dumps(told))
    return 0


def _without(name: str) -> Application:
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    left = [each for each in settings.MIDDLEWARE if each != name]
    with override_settings(MIDDLEWARE=left):
        return WSGIHandler()


def _microseconds(application: Application, requests: Sequence[list[str]], count: int) -> float:
    began = time.process_time()
    for number in range(count):
        call(application, requests[number % len(requests)])
    return 1e6 * (time.process_time() - began) / count


if __name__ == "__main__":
    sys.exit(main())
