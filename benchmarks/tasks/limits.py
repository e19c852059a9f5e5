"""Prints the connection and alias ceilings of a process as JSON."""

import json
import sys

import django


def main() -> int:
    django.setup()
    from django.conf import settings

    names = ("ORG_MAX_CONNECTIONS", "ORG_MAX_ALIASES")
    print(json.dumps({name: getattr(settings, name) for name in names}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
