"""Applies the added migration to the first organizations by the product's own run, or unapplies it.

    DJANGO_SETTINGS_MODULE=benchmarks.comparators.migrated.settings \\
        python -m benchmarks.tasks.migrate_fleet --count 1000 --parallel 4 [--back]

Prints JSON: the seconds of the run's work, what became of the organizations, and the memory that
this process had at each quarter of them, in bytes.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

import django

from benchmarks.comparators.migrated import newest
from benchmarks.harness.web import rss_bytes
from benchmarks.names import SEEDED


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--back", action="store_true")
    options = parser.parse_args(arguments)
    django.setup()
    from organizations.migrating import fleet
    from organizations.migrating.engine import Target
    from organizations.migrating.results import Progress
    from organizations.models import Organization

    memory: dict[int, int] = {}

    def look(progress: Progress) -> None:
        for quarter in range(1, 5):
            if quarter not in memory and progress.done >= quarter * progress.total / 4:
                memory[quarter] = rss_bytes(os.getpid())

    chosen = Organization.objects.usable().filter(
        name__gte=SEEDED, name__lt=f"{SEEDED}{options.count:05d}"
    )
    target = Target("accounts", newest()) if options.back else Target()
    report = fleet.run(
        chosen, fleet.Options(target=target, parallel=options.parallel), on_progress=look
    )
    told = {
        "seconds": report.seconds,
        "in step": report.in_step_before,
        "failures": report.failures,
        "memory": [memory[quarter] for quarter in sorted(memory)],
        **{kind.value: count for kind, count in report.counts.items()},
    }
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
