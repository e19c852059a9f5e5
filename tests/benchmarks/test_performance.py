"""Tests of docs/performance.md: it says what the committed results say, and nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.harness.rows import Row, Rows
from benchmarks.reporting import performance
from benchmarks.reporting.performance import SECTIONS, fill

pytestmark = pytest.mark.pure

SENTENCES = [text for section in SECTIONS for text in section.sentences]
RESULTS = report.load_all()


def test_every_sentence_holds_a_figure_of_a_row() -> None:
    assert [text for text in SENTENCES if not re.search(r"\{[^{}]+\}", text)] == []
    # A sentence whose row is missing is left out.
    assert [text for text in SENTENCES if fill(text, Rows())] == []


def test_a_sentence_shows_medians_with_units_and_facts_without() -> None:
    rows = Rows(
        [
            Row("reference/hash", "ms", (34.0, 30.0, 38.0)),
            Row("a/b", "/s", (12.345,), {"hit_rate": 0.987, "errors": 3}),
        ]
    )
    assert fill("A hash took {reference/hash}.", rows) == "A hash took 34 ms."
    assert fill("{a/b}, {a/b:hit_rate}, {a/b:errors}.", rows) == "12.3 a second, 98.7%, 3."
    assert fill("{reference/hash} and {c}.", rows) == "", "one row of two is not enough"


def test_the_page_of_a_result_has_its_machine_its_goals_and_its_figures() -> None:
    result = a_result()
    text = performance.render({"bench": result}, {"bench": {"sign-up"}})

    assert "- 2 cores, A processor, 4 GB of memory, Linux 6.1, ext4" in text
    assert "| lookup | at least 0.85 of a bare DRF view" in text
    assert "- By template it took 98.8 ms." in text
    assert "![Sign-up](../benchmarks/results/bench-sign-up.svg)" in text
    assert "With a spare database" not in text, "there is no such row"


def test_writing_a_result_replaces_its_own_files_alone(tmp_path: Path) -> None:
    (tmp_path / "bench-routed.svg").write_text("of rows that are gone")
    (tmp_path / "bench-large-routed.svg").write_text("another's")
    before = report.PAGE.read_text()
    written = report.write("bench", a_result(), tmp_path)

    assert {"bench.json", "bench.md", "bench-sign-up.svg"} == {each.name for each in written}
    assert {each.name for each in tmp_path.glob("*-routed.svg")} == {"bench-large-routed.svg"}
    assert before == report.PAGE.read_text()
    assert (
        "| template, sequential | 98.8 ms | 97 to 101 | 3 |" in (tmp_path / "bench.md").read_text()
    )


def test_the_committed_page_is_what_the_committed_results_give() -> None:
    assert report.PAGE.read_text() == report.page(RESULTS)


def test_the_committed_results_are_what_their_rounds_give(tmp_path: Path) -> None:
    """Medians, goals and plots; and each says what machine it is of."""
    for name, result in RESULTS.items():
        rows = Rows(Row.from_json(each) for each in result["rows"])
        assert [row.as_json() for row in rows.all()] == result["rows"]
        told = {key: result[key] for key in result if key not in ("goals", "rows")}
        assert report.result_of(rows, **told)["goals"] == result["goals"]
        for made in report.write(name, result, tmp_path):
            assert made.read_text() == (report.RESULTS / made.name).read_text(), made.name
        machine = result["machine"]
        assert machine["postgresql_settings"]["fsync"] == "on"
        assert {"cores", "cpu", "memory_gb", "kernel", "postgresql", "python"} <= set(machine)


def a_result() -> dict[str, Any]:
    """A result as a run writes it, with two rows."""
    rows = Rows(
        [
            Row("sign-up/template/sequential", "ms", (98.76, 101.0, 97.0), {"failures": 0}),
            Row("look-up/of bare", "ratio", (0.85,)),
        ]
    )
    machine = {
        "cores": 2,
        "cpu": "A processor",
        "memory_gb": 4,
        "kernel": "6.1",
        "file_system": "ext4",
        "python": "3.11.7",
        "postgresql": "18.6",
        "postgresql_settings": {"fsync": "on"},
        "commit": "0123456789ab",
    }
    told = report.result_of(
        rows,
        title="A run",
        trial=False,
        began="2026-01-01 00:00 UTC",
        seconds=60.0,
        machine=machine,
    )
    loaded: dict[str, Any] = json.loads(json.dumps(told))
    return loaded
