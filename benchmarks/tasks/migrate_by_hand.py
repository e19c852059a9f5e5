"""Applies the added migration's SQL to the first organizations with plain psycopg, or unapplies it.

    DJANGO_SETTINGS_MODULE=benchmarks.comparators.migrated.settings \\
        python -m benchmarks.tasks.migrate_by_hand --count 1000 --parallel 4 [--back]

As somebody would write it who knows the statements and the passwords: each thread connects as an
organization's role, runs them in one transaction, and continues with the next. Looking up the
statements and passwords is not timed. Prints JSON: the seconds and the number of organizations.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
import psycopg

from benchmarks.comparators.migrated import ADDED
from benchmarks.names import SEEDED

RECORD = "INSERT INTO django_migrations (app, name, applied) VALUES ('accounts', %s, now())"
FORGET = "DELETE FROM django_migrations WHERE app = 'accounts' AND name = %s"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--back", action="store_true")
    options = parser.parse_args(arguments)
    django.setup()
    from organizations.models import Organization
    from organizations.postgres.databases import settings_for

    chosen = Organization.objects.usable().filter(
        name__gte=SEEDED, name__lt=f"{SEEDED}{options.count:05d}"
    )
    places = [settings_for(each.place, owner=each.name) for each in chosen]
    statement = _statement(options.back)
    began = time.perf_counter()
    with ThreadPoolExecutor(options.parallel) as pool:
        for _ in pool.map(lambda place: _run(place, statement, options.back), places):
            pass
    print(json.dumps({"seconds": time.perf_counter() - began, "count": len(places)}))
    return 0


def _statement(back: bool) -> str:
    """The SQL that `manage.py sqlmigrate` prints."""
    from django.db import connections
    from django.db.migrations.loader import MigrationLoader

    loader = MigrationLoader(None)
    migration = loader.get_migration("accounts", ADDED)
    before = loader.project_state(list(migration.dependencies))
    with connections["default"].schema_editor(collect_sql=True, atomic=False) as editor:
        if back:
            migration.unapply(before, editor, collect_sql=True)
        else:
            migration.apply(before, editor, collect_sql=True)
    lines = [line for line in editor.collected_sql if not line.startswith("--")]
    return "\n".join(lines)


def _run(place: dict[str, Any], statement: str, back: bool) -> None:
    with psycopg.connect(
        host=place["HOST"],
        port=place["PORT"],
        dbname=place["NAME"],
        user=place["USER"],
        password=place["PASSWORD"],
    ) as connection:
        connection.execute(statement)
        connection.execute(FORGET if back else RECORD, (ADDED,))


if __name__ == "__main__":
    sys.exit(main())
