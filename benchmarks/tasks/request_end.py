"""Times what Django does around a request, by how many organizations this process has served.

    python -m benchmarks.tasks.request_end --counts 1 10 100 --kind ours

ours: each organization is entered and left, as in a request. naive: each gets an alias that stays,
as in the comparator `naive`. No connection is opened: only the signals request_started and
request_finished are timed, whose receivers loop over the aliases. The organizations exist as rows
only, and are removed at the end. Prints JSON: microseconds by count.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import django

REPEATS = 400
BATCH_SECONDS = 0.4
PREFIX = "alias-"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", required=True)
    parser.add_argument("--kind", choices=("ours", "naive"), required=True)
    options = parser.parse_args(arguments)
    django.setup()
    from django.db import connections

    from organizations.models import Organization

    told = {}
    rows = Organization.objects.filter(name__startswith=PREFIX)
    rows.delete()  # Left by a killed run.
    try:
        organizations = _rows(max(options.counts))
        met = 0
        for count in sorted(options.counts):
            for organization in organizations[met:count]:
                if options.kind == "ours":
                    _enter(organization)
                    continue
                alias = f"naive_{organization.pk}"
                connections.settings[alias] = {
                    **connections.settings["default"],
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": organization.database_name,
                }
                _ = connections[alias]  # As in a thread that has served the organization.
            met = count
            told[str(count)] = _microseconds()
    finally:
        rows.delete()
    print(json.dumps(told))
    return 0


def _rows(count: int) -> list[Any]:
    from organizations.models import Organization, Server
    from organizations.naming import name_digest
    from organizations.secrets import new_audit_key, seal

    server = Server.objects.get_or_create(name=Server.DEFAULT)[0]
    sealed, audit_key = seal("x" * 43), new_audit_key()
    return Organization.objects.bulk_create(
        Organization(
            name=f"{PREFIX}{number}",
            name_digest=name_digest(f"{PREFIX}{number}"),
            slug=f"{PREFIX}{number}",
            admin_email="nobody@example.com",
            status=Organization.Status.ACTIVE,
            server=server,
            database_name=f"org_alias_{number}",
            role_name=f"org_alias_{number}",
            sealed_password=sealed,
            sealed_audit_key=audit_key,
        )
        for number in range(count)
    )


def _enter(organization: Any) -> None:
    from organizations import tenancy

    with tenancy.override(organization.tenant):
        pass


def _microseconds() -> list[float]:
    """Medians of five batches, so that one interruption does not count."""
    from django.core.signals import request_finished, request_started

    batches = []
    for _ in range(5):
        taken: list[float] = []
        ends = time.perf_counter() + BATCH_SECONDS
        while len(taken) < REPEATS // 5 and (not taken or time.perf_counter() < ends):
            began = time.perf_counter()
            request_started.send(sender=None, environ={})
            request_finished.send(sender=None)
            taken.append(1e6 * (time.perf_counter() - began))
        batches.append(statistics.median(taken))
    return batches


if __name__ == "__main__":
    sys.exit(main())
