"""Creates the users of the comparator `bare`, and a file of requests with their tokens.

    DJANGO_SETTINGS_MODULE=benchmarks.comparators.bare.settings \\
        python -m benchmarks.tasks.bare_tokens --count 100 --file FILE
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import django

from benchmarks.harness.wrk import Request, write_requests


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args(arguments)
    django.setup()
    from rest_framework_simplejwt.tokens import AccessToken

    requests = []
    for number in range(1, options.count + 1):
        token = AccessToken()
        token.set_exp(lifetime=timedelta(days=1))
        token["user_id"] = str(number)
        requests.append(Request("GET", "/api/v1/me/", authorization=f"Bearer {token}"))
    write_requests(options.file, requests)
    return 0


if __name__ == "__main__":
    sys.exit(main())
