"""`migrate_orgs --plan`: the SQL that a run would send, once per fingerprint."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Min, QuerySet
from django.db.models import Q as Condition

from organizations.models import Organization

from .engine import Engine, MigrationSQL


@dataclass(frozen=True)
class Plan:
    """`count` organizations have this fingerprint; the SQL is for `example`, one of them."""

    fingerprint: str
    count: int
    example: Organization
    migrations: list[MigrationSQL]


def plans(
    organizations: "QuerySet[Organization]", chosen: Condition, engine: Engine
) -> Iterator[Plan]:
    """One plan per fingerprint; queries one database for each."""
    groups = (
        organizations.filter(chosen)
        .order_by()
        .values_list("fingerprint")
        .annotate(count=Count("pk"), first=Min("pk"))
        .order_by("first")
    )
    for fingerprint, count, first in groups:
        example = Organization.objects.get(pk=first)
        sql = engine.sql(example.tenant, owner=example.name)
        yield Plan(fingerprint, count, example, sql)


def text(plan: Plan) -> Iterator[str]:
    """The plan as SQL with comments."""
    at = plan.fingerprint[:12] or "an unknown fingerprint"
    yield f"-- {plan.count} at {at}, such as {plan.example.slug}"
    if not plan.migrations:
        yield "-- nothing to do"
    for migration in plan.migrations:
        label, name = migration.key
        yield f"-- {label}.{name}{', unapplied' if migration.backwards else ''}"
        if migration.statements is None:
            yield f"-- made for each database: {migration.reason}"
        yield from migration.statements or ()


def facts(plan: Plan) -> dict[str, Any]:
    """The plan as JSON."""
    return {
        "fingerprint": plan.fingerprint,
        "organizations": plan.count,
        "example": plan.example.name,
        "migrations": [
            {
                "migration": ".".join(each.key),
                "backwards": each.backwards,
                "sql": None if each.statements is None else list(each.statements),
                "reason": each.reason,
            }
            for each in plan.migrations
        ],
    }
