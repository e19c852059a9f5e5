"""Prints as JSON every endpoint, admin page and command that can write.

    python -m tests.faults.listing

As the application lists them: endpoints with an unsafe method from the URL resolver, the pages of
Django admin, and the commands of the project's own apps.
"""

import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any


def listed() -> set[str]:
    """`METHOD path`, `admin:name` and names of commands. Django must be set up."""
    from django.contrib import admin
    from django.core.management import get_commands

    from organizations.isolation.calls import endpoints

    unsafe = {key for key in endpoints() if key.partition(" ")[0] not in ("GET",)}
    pages = {f"admin:{pattern.name}" for pattern in _flat(admin.site.get_urls()) if pattern.name}
    commands = {name for name, app in get_commands().items() if _is_ours(str(app))}
    return unsafe | pages | commands


def _is_ours(app: str) -> bool:
    spec = importlib.util.find_spec(app)
    return "site-packages" not in str(spec.origin if spec else "")


def _flat(patterns: Iterable[Any]) -> Iterator[Any]:
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _flat(pattern.url_patterns)
        else:
            yield pattern


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")
    import django

    django.setup()
    print(json.dumps(sorted(listed())))


if __name__ == "__main__":
    main()
