"""Rows, and the medians and ranges that are kept of them."""

import json
from pathlib import Path

import pytest

from benchmarks.harness.budget import Clock
from benchmarks.harness.rows import Row, Rows, by_round, quantile, rounded, write_json
from benchmarks.measures import routed


def test_a_row_keeps_its_rounds_their_median_and_their_range() -> None:
    told = Row("routed/1 uniform/plain", "/s", (10.0, 30.0, 20.0), {"errors": 0}).as_json()

    assert (told["median"], told["low"], told["high"]) == (20.0, 10.0, 30.0)
    assert told["values"] == [10.0, 30.0, 20.0]
    assert Row.from_json(json.loads(json.dumps(told))).median == 20.0


def test_a_row_that_is_missing_says_why_and_is_not_found() -> None:
    row = Row("sign-up/spare/sequential", "ms", missing="not available")
    rows = Rows([Row.from_json(row.as_json())])

    assert rows.find(row.key) is None
    assert [each.missing for each in rows.all()] == ["not available"]


def test_a_ratio_is_made_round_by_round_and_not_of_two_medians() -> None:
    # The machine was twice as slow in the second round, for both.
    ratio = by_round("x", "ratio", [90.0, 45.0, 80.0], [100.0, 50.0, 100.0])

    assert ratio.values == (0.9, 0.9, 0.8)
    assert ratio.median == 0.9


def test_a_ratio_of_what_was_not_measured_is_missing() -> None:
    assert by_round("x", "ratio", [], []).missing


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(each) for each in range(1, 101)]

    assert quantile(values, 0.5) == 51.0
    assert quantile(values, 0.95) == 96.0
    assert quantile([7.0], 0.99) == 7.0


def test_four_digits_are_kept() -> None:
    assert rounded(123.456) == 123.5
    assert rounded(0.0123456) == 0.01235


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    write_json(file, {"a": 1})
    write_json(file, {"a": 2})

    assert json.loads(file.read_text()) == {"a": 2}
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]


def test_rounds_end_where_another_one_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("benchmarks.harness.budget.time.monotonic", lambda: now[0])
    clock = Clock(1000)
    done = []
    for number in clock.rounds(10, seconds=35):
        done.append(number)
        now[0] += 10

    assert done == [0, 1, 2]


def test_there_is_one_round_where_there_is_no_time_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("benchmarks.harness.budget.time.monotonic", lambda: now[0])
    clock = Clock(5)
    done = []
    for number in clock.rounds(10, seconds=-1):
        done.append(number)
        now[0] += 10

    assert done == [0]


def test_a_slow_machine_leaves_cells_with_few_organizations_out_and_never_the_largest() -> None:
    cells = routed.cells_of(1, 10, 100)

    def kept(seconds: float) -> list[str]:
        found = routed.affordable(cells, routed.ALL, wrk_seconds=2, seconds=seconds)
        return [cell.name for cell in found]

    assert kept(300) == [cell.name for cell in cells]
    assert kept(100) == ["10 uniform", "100 uniform", "10 zipf", "100 zipf"]
    assert kept(-5) == ["100 uniform", "100 zipf"]
