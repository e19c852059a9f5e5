"""The goals, each judged by rows of the same run: nothing is compared across runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.rows import Row, Rows, rounded

# What wants the large run says so by what it needs: its rows are in that result alone.
TEMPLATE, SPARE = "sign-up/template", "sign-up/spare"


@dataclass(frozen=True)
class Goal:
    """What is wanted. measured: the figure by the rows, or None where they are not there."""

    name: str
    wanted: str
    limit: float
    at_most: bool
    unit: str
    measured: Callable[[Rows], float | None]

    def judge(self, rows: Rows) -> "Judged":
        value = self.measured(rows)
        met = (
            None
            if value is None
            else (value <= self.limit if self.at_most else value >= self.limit)
        )
        return Judged(self, None if value is None else rounded(value), met)


@dataclass(frozen=True)
class Judged:
    """A goal and what came of it; met is None where it was not measured."""

    goal: Goal
    value: float | None
    met: bool | None

    def as_json(self) -> dict[str, Any]:
        return {
            "goal": self.goal.name,
            "wanted": self.goal.wanted,
            "limit": self.goal.limit,
            "at_most": self.goal.at_most,
            "unit": self.goal.unit,
            "measured": self.value,
            "met": self.met,
        }


def judge(rows: Rows) -> list[Judged]:
    """Every goal."""
    return [goal.judge(rows) for goal in GOALS]


def _median(rows: Rows, key: str) -> float | None:
    row = rows.find(key)
    return None if row is None else row.median


def _above_hash(key: str) -> Callable[[Rows], float | None]:
    """Milliseconds that a sign-up takes beyond one hash."""

    def measured(rows: Rows) -> float | None:
        taken, hashed = _median(rows, key), _median(rows, "reference/hash")
        return None if taken is None or hashed is None else taken - hashed

    return measured


def _in_creates(rows: Rows) -> float | None:
    """What a sign-up by template takes beyond one hash, in bare CREATE DATABASEs."""
    above = _above_hash(f"{TEMPLATE}/sequential")(rows)
    create = _median(rows, "reference/create database")
    return None if above is None or not create else above / create


def _row(key: str) -> Callable[[Rows], float | None]:
    return lambda rows: _median(rows, key)


def _failures_of_100(rows: Rows) -> float | None:
    """Failures at concurrency 32, by all paths that are the product's own."""
    return _sum(_facts(rows, "failures", _at_32(rows)))


def _connections_over(rows: Rows) -> float | None:
    """By how many connections to organizations' databases a process was over its ceiling."""
    ceiling = _median(rows, "reference/ceiling")
    most = _facts(rows, "most_of_a_process", _at_32(rows))
    return None if ceiling is None or not most else max(0.0, max(most) - ceiling)


def _at_32(rows: Rows) -> list[Row]:
    found = (rows.find(f"{path}/concurrency 32") for path in (TEMPLATE, SPARE))
    return [row for row in found if row is not None]


def _facts(rows: Rows, name: str, among: Iterable[Row]) -> list[float]:
    found = (row.facts.get(name) for row in among)
    return [float(fact) for fact in found if isinstance(fact, int | float)]


def _sum(values: list[float]) -> float | None:
    return sum(values) if values else None


def _smallest(prefix: str, suffix: str) -> Callable[[Rows], float | None]:
    """The smallest of the medians of both distributions."""

    def measured(rows: Rows) -> float | None:
        found = [
            _median(rows, f"routed/{prefix} {distribution}/{suffix}")
            for distribution in ("uniform", "zipf")
        ]
        values = [value for value in found if value is not None]
        return min(values) if len(values) == len(found) else None

    return measured


def _routed_errors(rows: Rows) -> float | None:
    row = rows.find("routed/1000 zipf/ours, ceiling 64")
    return None if row is None else _sum(_facts(rows, "errors", [row]))


def _round_robin_over(rows: Rows) -> float | None:
    row = rows.find("round robin/connections")
    if row is None or row.facts.get("organizations") != 3000:
        return None
    return max(0.0, row.median - float(row.facts["ceiling"] or 0))


def _round_robin_growth(rows: Rows) -> float | None:
    row = rows.find("round robin/growth")
    return None if row is None or row.facts.get("organizations") != 3000 else row.median


ZIPF_64 = "routed/1000 zipf/ours, ceiling 64"
GOALS = (
    Goal(
        "sign-up with a spare, sequential p50, above one hash",
        "at most 40 ms",
        40,
        True,
        "ms",
        _above_hash(f"{SPARE}/sequential"),
    ),
    Goal(
        "sign-up by template, sequential p50, above one hash",
        "at most 1.5 × the bare CREATE DATABASE … TEMPLATE",
        1.5,
        True,
        "×",
        _in_creates,
    ),
    Goal(
        "sign-ups by template, concurrency 8",
        "at least 15 /s",
        15,
        False,
        "/s",
        _row(f"{TEMPLATE}/concurrency 8"),
    ),
    Goal(
        "sign-ups with spares kept up, concurrency 8",
        "at least 20 /s",
        20,
        False,
        "/s",
        _row(f"{SPARE}/concurrency 8"),
    ),
    Goal(
        "100 sign-ups at concurrency 32: failures",
        "none",
        0,
        True,
        "",
        _failures_of_100,
    ),
    Goal(
        "100 sign-ups at concurrency 32: connections over a process's ceiling",
        "none",
        0,
        True,
        "",
        _connections_over,
    ),
    Goal(
        "logins, concurrency 8",
        "at least 0.7 of cores ÷ one hash",
        0.7,
        False,
        "×",
        _row("login/of the hashes"),
    ),
    Goal(
        "look-up",
        "at least 0.8 of a bare DRF view with the same body and one query",
        0.8,
        False,
        "×",
        _row("look-up/of bare"),
    ),
    Goal(
        "routed view, 100 organizations, ceiling 128",
        "at least 0.9 of plain, uniform and by Zipf",
        0.9,
        False,
        "×",
        _smallest("100", "ours, ceiling 128/of plain"),
    ),
    Goal(
        "routed view, 1,000 organizations by Zipf, ceiling 64",
        "at least 4 × naive with CONN_MAX_AGE=0",
        4,
        False,
        "×",
        _row(f"{ZIPF_64}/of naive"),
    ),
    Goal(
        "routed view, 1,000 organizations by Zipf, ceiling 64",
        "at least 0.5 of plain",
        0.5,
        False,
        "×",
        _row(f"{ZIPF_64}/of plain"),
    ),
    Goal(
        "routed view, 1,000 organizations by Zipf, ceiling 64: errors",
        "none",
        0,
        True,
        "",
        _routed_errors,
    ),
    Goal(
        "3,000 organizations touched in turn: growth of memory from the 500th on",
        "at most 5 %",
        0.05,
        True,
        "share",
        _round_robin_growth,
    ),
    Goal(
        "3,000 organizations touched in turn: connections over the ceiling",
        "none",
        0,
        True,
        "",
        _round_robin_over,
    ),
    Goal(
        "sign-up with 3,000 databases and roles present",
        "at most 1.3 × its time with 10",
        1.3,
        True,
        "×",
        _row("existing/3000/of 10"),
    ),
)
