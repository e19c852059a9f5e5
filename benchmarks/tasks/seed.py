"""Creates organizations bench-00000 to bench-<count - 1> by the product's own service.

    python -m benchmarks.tasks.seed --count 100 --part 0 --parts 2

Existing ones are left alone, so that a killed run can continue.
"""

import argparse
import sys
from collections.abc import Sequence

import django

from benchmarks.harness.contract import PASSWORD, email_of
from benchmarks.names import seeded


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args(arguments)
    django.setup()
    from organizations import lifecycle
    from organizations.models import Organization

    there = set(Organization.objects.usable().values_list("name", flat=True))
    for name in seeded(options.count)[options.part :: options.parts]:
        if name not in there:
            lifecycle.create_organization(name=name, email=email_of(name), password=PASSWORD)
    return 0


if __name__ == "__main__":
    sys.exit(main())
