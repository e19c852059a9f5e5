"""Deletes the organizations whose names begin with a prefix.

python -m benchmarks.tasks.drop PREFIX --part 0 --parts 2
"""

import argparse
import sys
from collections.abc import Sequence

import django


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("prefix")
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args(arguments)
    django.setup()
    from organizations import lifecycle
    from organizations.models import Organization

    for organization in Organization.objects.usable().filter(name__startswith=options.prefix):
        # By key, not by position: the parts list them at different moments.
        if organization.pk % options.parts == options.part:
            lifecycle.delete_organization(organization, now=True, without_backup=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
