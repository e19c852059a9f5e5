"""Reads the figure of each goal from the rows of one run; None if they are missing."""

from collections.abc import Callable, Iterable

from benchmarks.harness.rows import Row, Rows

TEMPLATE, SPARE = "sign-up/template", "sign-up/spare"


def _median(rows: Rows, key: str) -> float | None:
    row = rows.find(key)
    return None if row is None else row.median


def above_hash(key: str) -> Callable[[Rows], float | None]:
    """Milliseconds that a sign-up takes beyond one hash."""

    def measured(rows: Rows) -> float | None:
        taken, hashed = _median(rows, key), _median(rows, "reference/hash")
        return None if taken is None or hashed is None else taken - hashed

    return measured


def in_creates(rows: Rows) -> float | None:
    """Time of a sign-up by template beyond one hash, in bare CREATE DATABASEs."""
    above = above_hash(f"{TEMPLATE}/sequential")(rows)
    create = _median(rows, "reference/create database")
    return None if above is None or not create else above / create


def row(key: str) -> Callable[[Rows], float | None]:
    return lambda rows: _median(rows, key)


def failures_of_100(rows: Rows) -> float | None:
    """Failures at concurrency 32, of all the product's own paths."""
    return _sum(_facts(rows, "failures", _at_32(rows)))


def connections_over(rows: Rows) -> float | None:
    """The number of connections to organizations' databases above a process's ceiling."""
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


def smallest(prefix: str, suffix: str) -> Callable[[Rows], float | None]:
    """The smaller median of the two distributions."""

    def measured(rows: Rows) -> float | None:
        found = [
            _median(rows, f"routed/{prefix} {distribution}/{suffix}")
            for distribution in ("uniform", "zipf")
        ]
        values = [value for value in found if value is not None]
        return min(values) if len(values) == len(found) else None

    return measured


def routed_errors(rows: Rows) -> float | None:
    row = rows.find("routed/1000 zipf/ours, ceiling 64")
    return None if row is None else _sum(_facts(rows, "errors", [row]))


def round_robin_over(rows: Rows) -> float | None:
    row = rows.find("round robin/connections")
    if row is None or row.facts.get("organizations") != 3000:
        return None
    return max(0.0, row.median - float(row.facts["ceiling"] or 0))


def round_robin_growth(rows: Rows) -> float | None:
    row = rows.find("round robin/growth")
    return None if row is None or row.facts.get("organizations") != 3000 else row.median


def fact(key: str, name: str) -> Callable[[Rows], float | None]:
    def measured(rows: Rows) -> float | None:
        row = rows.find(key)
        return None if row is None else _sum(_facts(rows, name, [row]))

    return measured
