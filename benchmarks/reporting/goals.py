"""The performance goals, each judged by rows of the same run, never across runs.

Goals about requests compare processor time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.rows import Row, Rows, rounded

from . import figures
from .figures import SPARE, TEMPLATE


@dataclass(frozen=True)
class Goal:
    """A goal. measured: its figure from the rows, or None if they are missing."""

    name: str
    wanted: str
    limit: float
    at_most: bool
    unit: str
    measured: Callable[[Rows], float | None]

    def judge(self, rows: Rows) -> "Judged":
        rows.read.clear()
        value = self.measured(rows)
        # The row that the figure is the median of, if it is one's.
        row = next((row for row in rows.read if row.median == value), None)
        met = (
            None
            if value is None
            else (value <= self.limit if self.at_most else value >= self.limit)
        )
        return Judged(self, None if value is None else rounded(value), met, row)


@dataclass(frozen=True)
class Judged:
    """A judged goal; met is None if it was not measured. row: what the figure is the median of."""

    goal: Goal
    value: float | None
    met: bool | None
    row: Row | None = None

    def as_json(self) -> dict[str, Any]:
        told = {
            "goal": self.goal.name,
            "wanted": self.goal.wanted,
            "limit": self.goal.limit,
            "at_most": self.goal.at_most,
            "unit": self.goal.unit,
            "measured": self.value,
            "met": self.met,
        }
        if self.row is not None and len(self.row.values) > 1:
            low, high = rounded(self.row.low), rounded(self.row.high)
            told |= {"low": low, "high": high, "turns": len(self.row.values)}
        return told


def judge(rows: Rows) -> list[Judged]:
    """Judge every goal."""
    return [goal.judge(rows) for goal in GOALS]


# Goals of the large run need rows that only its result has.
MIGRATE = "migrate/1000"
ZIPF_64 = "routed/1000 zipf/ours, ceiling 64"
GOALS = (
    Goal(
        "sign-up with a spare, sequential p50, above one hash",
        "at most 20 ms",
        20,
        True,
        "ms",
        figures.above_hash(f"{SPARE}/sequential"),
    ),
    Goal(
        "sign-up by template, sequential p50, above one hash",
        "at most 1.5 × the bare CREATE DATABASE … TEMPLATE",
        1.5,
        True,
        "×",
        figures.in_creates,
    ),
    Goal(
        "sign-ups by template, concurrency 8",
        "at least 15 /s",
        15,
        False,
        "/s",
        figures.row(f"{TEMPLATE}/concurrency 8"),
    ),
    Goal(
        "sign-ups with spares refilled meanwhile, concurrency 8",
        "at least 20 /s",
        20,
        False,
        "/s",
        figures.row(f"{SPARE}/concurrency 8"),
    ),
    Goal(
        "100 sign-ups at concurrency 32: failures",
        "none",
        0,
        True,
        "",
        figures.failures_of_100,
    ),
    Goal(
        "100 sign-ups at concurrency 32: connections over a process's ceiling",
        "none",
        0,
        True,
        "",
        figures.connections_over,
    ),
    Goal(
        "logins, concurrency 8",
        "at least 0.75 of a login's processor time is its hash",
        0.75,
        False,
        "×",
        figures.row("login/of the hashes"),
    ),
    Goal(
        "lookup",
        "at least 0.85 of a bare DRF view with the same body and one query",
        0.85,
        False,
        "×",
        figures.row("look-up/of bare"),
    ),
    Goal(
        "routed view, 100 organizations, ceiling 128",
        "at least 0.95 of plain, uniform and by Zipf",
        0.95,
        False,
        "×",
        figures.smallest("100", "ours, ceiling 128/of plain"),
    ),
    Goal(
        "routed view, 100 organizations, ceiling 128",
        "at least 0.75 of startproject with DRF and simplejwt",
        0.75,
        False,
        "×",
        figures.smallest("100", "ours, ceiling 128/of startproject"),
    ),
    Goal(
        "routed view, 1,000 organizations by Zipf, ceiling 64",
        "at least 4 × naive with CONN_MAX_AGE=0",
        4,
        False,
        "×",
        figures.row(f"{ZIPF_64}/of naive"),
    ),
    Goal(
        "routed view, 1,000 organizations by Zipf, ceiling 64",
        "at least 0.55 of plain",
        0.55,
        False,
        "×",
        figures.row(f"{ZIPF_64}/of plain"),
    ),
    Goal(
        "routed view, 1,000 organizations by Zipf, ceiling 256",
        "at least 0.75 of plain",
        0.75,
        False,
        "×",
        figures.row("routed/1000 zipf/ours, ceiling 256/of plain"),
    ),
    Goal(
        "routed view, 1,000 organizations by Zipf, ceiling 64: errors",
        "none",
        0,
        True,
        "",
        figures.routed_errors,
    ),
    Goal(
        "3,000 organizations served in turn: growth of memory from the 500th on",
        "at most 5 %",
        0.05,
        True,
        "share",
        figures.round_robin_growth,
    ),
    Goal(
        "3,000 organizations served in turn: connections over the ceiling",
        "none",
        0,
        True,
        "",
        figures.round_robin_over,
    ),
    Goal(
        "sign-up with 3,000 existing databases and roles",
        "at most 1.3 × its time with 10",
        1.3,
        True,
        "×",
        figures.row("existing/3000/of 10"),
    ),
    Goal(
        "migrate_orgs over 1,000 organizations with nothing to do",
        "under 1 s of work",
        1,
        True,
        "s",
        figures.row(f"{MIGRATE}/nothing to do/ours"),
    ),
    Goal(
        "migrate_orgs over 1,000 organizations with nothing to do, each",
        "at most 0.3 ms",
        0.3,
        True,
        "ms",
        figures.row(f"{MIGRATE}/nothing to do/ours/each"),
    ),
    Goal(
        "an AddField over 1,000 organizations",
        "at least 0.5 of psycopg by hand",
        0.5,
        False,
        "×",
        figures.row(f"{MIGRATE}/ours/of by hand"),
    ),
    Goal(
        "an AddField over 1,000 organizations",
        "at least 4 × django-tenants",
        4,
        False,
        "×",
        figures.row(f"{MIGRATE}/ours/of django-tenants"),
    ),
    Goal(
        "memory of a run over 1,000 organizations, from the first quarter to the end",
        "grows by 5 % at most",
        0.05,
        True,
        "share",
        figures.row(f"{MIGRATE}/memory/growth"),
    ),
    Goal(
        "sign-ups while 1,000 organizations are migrated: failures",
        "none",
        0,
        True,
        "",
        figures.fact(f"{MIGRATE}/sign-ups meanwhile", "failures"),
    ),
)
