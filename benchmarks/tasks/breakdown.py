"""Signs organizations up by the product's service and times each step.

    python -m benchmarks.tasks.breakdown NAME NAME …

Prints one JSON list: for each name its path, its total time and its steps, in milliseconds.
"""

import json
import sys
import time
from collections.abc import Sequence

import django

from benchmarks.harness.contract import PASSWORD, email_of


def main(names: Sequence[str]) -> int:
    django.setup()
    from organizations import lifecycle

    told = []
    for name in names:
        began = time.perf_counter()
        created = lifecycle.create_organization(name=name, email=email_of(name), password=PASSWORD)
        told.append(
            {
                "path": str(getattr(created.report, "path", "plain")),
                "total_ms": 1000 * (time.perf_counter() - began),
                "steps_ms": {step: 1000 * taken for step, taken in created.report.seconds.items()},
            }
        )
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
