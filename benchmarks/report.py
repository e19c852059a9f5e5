"""`make bench-report`: makes the tables, plots and docs/performance.md from the results' JSON.

    python -m benchmarks.report

Judges the goals again by the rows that `make bench` and `make bench-large` have written.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.cluster import PROJECT
from benchmarks.harness.rows import Row, Rows, write_json
from benchmarks.reporting import markdown, performance, plots
from benchmarks.reporting.goals import judge

RESULTS = PROJECT / "benchmarks" / "results"
PAGE = PROJECT / "docs" / "performance.md"
NAMES = ("bench", "bench-large")


def result_of(rows: Rows, **told: Any) -> dict[str, Any]:
    """The result as JSON: facts about the run, the goals, and the rows.

    Goals are judged by the rows as stored, so that anybody can judge them again.
    """
    kept = [row.as_json() for row in rows.all()]
    return {**told, "goals": _goals({"rows": kept}), "rows": kept}


def write(name: str, result: Mapping[str, Any], folder: Path = RESULTS) -> list[Path]:
    """Write a result and its tables and plots. Only the project's own results change the page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", result)
    written = [folder / f"{name}.json", *_derive(name, result, folder)]
    if folder.resolve() == RESULTS.resolve():
        PAGE.write_text(page(load_all(folder)))
        written.append(PAGE)
    return written


def load_all(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The existing results by name."""
    files = {name: folder / f"{name}.json" for name in NAMES}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of docs/performance.md."""
    drawn = {name: set(plots.draw(_rows(result))) for name, result in results.items()}
    return performance.render(results, drawn)


def _derive(name: str, result: Mapping[str, Any], folder: Path) -> list[Path]:
    drawn = plots.draw(_rows(result))
    for old in folder.glob(f"{name}-*.svg"):
        # A name can begin with the other's.
        if old.stem.removeprefix(f"{name}-") in plots.NAMES and old.stem not in drawn:
            old.unlink()
    written = []
    for plot, svg in drawn.items():
        written.append(folder / f"{name}-{plot}.svg")
        written[-1].write_text(svg)
    text = markdown.render(result)
    shown = "\n".join(f"![{plot}]({name}-{plot}.svg)" for plot in drawn)
    written.append(folder / f"{name}.md")
    written[-1].write_text(f"{text}\n## Plots\n\n{shown}\n")
    return written


def _goals(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each.as_json() for each in judge(_rows(result))]


def _rows(result: Mapping[str, Any]) -> Rows:
    return Rows(Row.from_json(each) for each in result["rows"])


def main() -> int:
    results = load_all()
    if not results:
        print("There is no result in benchmarks/results yet: make bench makes one.")
        return 1
    for name, result in results.items():
        result["goals"] = _goals(result)  # There may be others since.
        write_json(RESULTS / f"{name}.json", result)
        _derive(name, result, RESULTS)
    PAGE.write_text(page(results))
    print(f"Made of {', '.join(results)}: {PAGE.relative_to(PROJECT)} and what it shows.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
