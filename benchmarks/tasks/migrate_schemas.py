"""Applies the added migration to every django-tenants schema by its command, or unapplies it.

    DJANGO_SETTINGS_MODULE=benchmarks.comparators.migrated.tenants \\
        python -m benchmarks.tasks.migrate_schemas [--back]

Prints JSON: the seconds of the command's work, and how many schemas there are.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout

import django

from benchmarks.comparators.migrated import newest


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--back", action="store_true")
    options = parser.parse_args(arguments)
    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from benchmarks.comparators.tenants.models import Client

    count = Client.objects.count()
    connection.close()  # Forked processes must not share it.
    target = ["accounts", newest()] if options.back else []
    began = time.perf_counter()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        call_command(
            "migrate_schemas",
            *target,
            executor="multiprocessing",
            tenant=True,
            interactive=False,
            verbosity=0,
        )
    print(json.dumps({"seconds": time.perf_counter() - began, "count": count}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
