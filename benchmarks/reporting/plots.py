"""The plots of a result. A plot whose rows are missing is left out."""

from collections.abc import Callable

from benchmarks.harness.rows import Row, Rows

from .plot import Bar, Line, bars, lines

PATHS = ("plain", "template", "spare")


def draw(rows: Rows) -> dict[str, str]:
    """SVG texts by plot name."""
    drawn = {name: plot(rows) for name, plot in _PLOTS.items()}
    return {name: svg for name, svg in drawn.items() if svg}


def _bar(row: Row, label: str, group: str = "") -> Bar:
    return Bar(label, row.median, row.low, row.high, group)


def _sign_up(rows: Rows) -> str:
    drawn = []
    for row in (rows.find("reference/hash"), rows.find("reference/create database")):
        if row is not None:
            label = "one hash" if row.key.endswith("hash") else "CREATE DATABASE"
            drawn.append(_bar(row, label, "for comparison"))
    for path in PATHS:
        for suffix in ("", ", refilled meanwhile"):
            if (row := rows.find(f"sign-up/{path}/sequential{suffix}")) is not None:
                group = "a sign-up over HTTP, one after the other"
                drawn.append(_bar(row, f"{path}{suffix}", group))
    return bars("Sign-up: how long one takes", "milliseconds, p50", drawn) if drawn else ""


def _sign_up_rate(rows: Rows) -> str:
    drawn = []
    for concurrency in (8, 32):
        for path in PATHS:
            if (row := rows.find(f"sign-up/{path}/concurrency {concurrency}")) is not None:
                drawn.append(_bar(row, path, f"concurrency {concurrency}"))
    return bars("Sign-up: how many in a second", "sign-ups each second", drawn) if drawn else ""


def _steps(rows: Rows) -> str:
    drawn = []
    for path in PATHS:
        for row in rows.below(f"sign-up/{path}/step/"):
            drawn.append(_bar(row, row.key.rpartition("/")[2], path))
    return bars("Sign-up: how long its steps take", "milliseconds", drawn) if drawn else ""


def _routed(rows: Rows) -> str:
    drawn = []
    for row in rows.below("routed/"):
        _, cell, variant, *rest = row.key.split("/")
        if rest == ["of plain"] and row.values:
            count, distribution = cell.split()
            group = f"{int(count):,} organization{'s' if count != '1' else ''}, {distribution}"
            drawn.append(_bar(row, variant, group))
    title = "One-query view, compared with plain single-database Django"
    return (
        bars(title, "plain's processor time divided by its own, 1 = plain", drawn) if drawn else ""
    )


def _by_count(rows: Rows, prefix: str) -> tuple[tuple[float, float], ...]:
    found = []
    for row in rows.below(prefix):
        last = row.key.removeprefix(prefix)
        if last.isdigit() and row.values:
            found.append((float(last), row.median))
    return tuple(sorted(found))


def _request_end(rows: Rows) -> str:
    drawn = [
        Line(kind, points)
        for kind in ("ours", "naive")
        if (points := _by_count(rows, f"request end/{kind}/"))
    ]
    title = "Django's work at the start and end of a request"
    return (
        lines(title, "microseconds", "organizations this process has served", drawn)
        if drawn
        else ""
    )


def _existing(rows: Rows) -> str:
    many = _by_count(rows, "existing/")
    few = tuple(
        (count, row.median)
        for count, _ in many
        if (row := rows.find(f"existing/10 beside {count:.0f}")) is not None
    )
    if not many:
        return ""
    drawn = [Line("with this many", many), Line("with 10, in turns", few)]
    return lines("Sign-up with existing databases", "milliseconds, p50", "databases", drawn)


def _round_robin(rows: Rows) -> str:
    memory = _by_count(rows, "round robin/")
    if not memory:
        return ""
    connections = []
    for count, _ in memory:
        row = rows.find(f"round robin/{count:.0f}")
        held = row.facts.get("connections") if row is not None else None
        connections.append((count, float(held) if isinstance(held, int | float) else 0.0))
    drawn = [Line("memory, MB", memory), Line("connections", tuple(connections))]
    title = "One process that serves every organization in turn"
    return lines(title, "megabytes, and connections", "organizations served", drawn)


_PLOTS: dict[str, Callable[[Rows], str]] = {
    "sign-up": _sign_up,
    "sign-up-rate": _sign_up_rate,
    "sign-up-steps": _steps,
    "routed": _routed,
    "request-end": _request_end,
    "existing": _existing,
    "round-robin": _round_robin,
}

NAMES = frozenset(_PLOTS)
