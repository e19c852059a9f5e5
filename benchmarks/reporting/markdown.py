"""Writes a result as Markdown: the machine, the goals, and a table of every row."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.rows import Row, Rows

UNITS = {"ratio": "×"}
SECTIONS = {
    "reference": "References",
    "sign-up": "Sign-up",
    "login": "Login",
    "look-up": "Lookup",
    "routed": "Routed view",
    "request end": "Start and end of a request",
    "existing": "Sign-up with existing databases",
    "round robin": "One process, every organization in turn",
}


def render(result: Mapping[str, Any]) -> str:
    """The whole file without the plots."""
    rows = Rows(Row.from_json(each) for each in result["rows"])
    parts = [
        f"# {result['title']}",
        "",
        machine(result),
        "",
        "## Goals",
        "",
        goals(result["goals"]),
    ]
    for prefix, heading in SECTIONS.items():
        found = rows.below(f"{prefix}/")
        if found:
            parts += ["", f"## {heading}", ""]
            parts.append(routed_table(found) if prefix == "routed" else table(found))
    return "\n".join(parts) + "\n"


def machine(result: Mapping[str, Any]) -> str:
    """The machine as a list."""
    told = result["machine"]
    settings = ", ".join(f"{name} {value}" for name, value in told["postgresql_settings"].items())
    lines = [
        f"- {told['cores']} cores, {told['cpu']}, {told['memory_gb']} GB of memory, Linux "
        f"{told['kernel']}, {told['file_system']}",
        f"- PostgreSQL {told['postgresql']} ({settings}), Python {told['python']}",
        f"- began {result['began']}, took {result['seconds'] / 60:.0f} minutes, commit "
        f"{told['commit'] or 'unknown'}",
    ]
    if result.get("trial"):
        lines.append("- **A short trial run: its figures only show that the harness works.**")
    return "\n".join(lines)


def goals(judged: Sequence[Mapping[str, Any]]) -> str:
    """The goals' table."""
    lines = ["| what | goal | measured | met |", "| --- | --- | --- | --- |"]
    for each in judged:
        met = {True: "yes", False: "**no**", None: "not measured"}[each["met"]]
        lines.append(f"| {each['goal']} | {each['wanted']} | {figure(each)} | {met} |")
    return "\n".join(lines)


def figure(goal: Mapping[str, Any]) -> str:
    """A goal's measured figure with its unit, and its spread if it is the median of turns."""
    value = goal["measured"]
    if value is None:
        return ""
    if goal["unit"] == "share":
        return f"{value:+.1%}"
    told = f"{number(value)} {goal['unit']}".strip()
    if "turns" in goal:
        spread = f"{number(goal['low'])} to {number(goal['high'])}"
        told += f" ({spread} in {goal['turns']} turns)"
    return told


def table(rows: Sequence[Row]) -> str:
    """One line for each row."""
    lines = ["| what | median | range | rounds | more |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        what = row.key.partition("/")[2].replace("/", ", ")
        if row.missing:
            lines.append(f"| {what} | {row.missing} | | | |")
            continue
        unit = UNITS.get(row.unit, row.unit)
        also = ", ".join(fact(name, value) for name, value in row.facts.items())
        lines.append(
            f"| {what} | {number(row.median)} {unit} | {number(row.low)} to {number(row.high)} | "
            f"{len(row.values)} | {also} |"
        )
    return "\n".join(lines)


def routed_table(rows: Sequence[Row]) -> str:
    """One line for each variant in each cell, with its ratios."""
    by_key = {row.key: row for row in rows}
    lines = [
        "| organizations | variant | requests a second | of plain | of naive | hit rate | "
        "connections | memory of a worker | p99 | errors |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        _, cell, variant, *rest = row.key.split("/")
        if rest or not row.values:
            continue
        ratios = (by_key.get(f"{row.key}/of {base}") for base in ("plain", "naive"))
        hits = row.facts.get("hit_rate")
        told = [
            cell,
            variant,
            spread(row),
            *("" if ratio is None else spread(ratio) for ratio in ratios),
            f"{hits:.1%}" if isinstance(hits, int | float) else "",
            str(row.facts.get("connections", "")),
            f"{number(float(row.facts.get('worker_rss_mb') or 0))} MB",
            f"{number(float(row.facts.get('p99_ms') or 0))} ms",
            str(row.facts.get("errors", "")),
        ]
        lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines)


def spread(row: Row) -> str:
    """The median, and the range if there was more than one round."""
    if not row.values:
        return ""
    if len(row.values) == 1:
        return number(row.median)
    return f"{number(row.median)} ({number(row.low)} to {number(row.high)})"


def fact(name: str, value: object) -> str:
    """A fact as words, followed by its unit."""
    words = name.replace("_", " ")
    if name == "hit_rate" and isinstance(value, int | float):
        return f"{value:.1%} without a new connection"
    if isinstance(value, int | float):
        for unit in ("ms", "mb"):
            if words.endswith(f" {unit}"):
                shown = {"ms": "ms", "mb": "MB"}[unit]
                return f"{words.removesuffix(f' {unit}')} {number(value)} {shown}"
        return f"{words} {number(value)}"
    return f"{words} {value}"


def number(value: float) -> str:
    """Three significant digits, with commas in thousands."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
