"""Tests of result rows: medians, ranges and rounds."""

import json

import pytest

from benchmarks.harness.budget import Clock
from benchmarks.harness.rows import Row, Rows, by_round, quantile, rounded
from benchmarks.measures import routed

pytestmark = pytest.mark.pure


def test_a_row_keeps_rounds_median_and_range_or_why_it_is_missing() -> None:
    told = Row("routed/1 uniform/plain", "/s", (10.0, 30.0, 20.0), {"errors": 0}).as_json()
    assert (told["median"], told["low"], told["high"]) == (20.0, 10.0, 30.0)
    assert told["values"] == [10.0, 30.0, 20.0]
    assert Row.from_json(json.loads(json.dumps(told))).median == 20.0

    row = Row("sign-up/spare/sequential", "ms", missing="not measured")
    rows = Rows([Row.from_json(row.as_json())])
    assert rows.find(row.key) is None
    assert [each.missing for each in rows.all()] == ["not measured"]


def test_a_ratio_is_made_round_by_round_and_not_of_two_medians() -> None:
    # The machine was twice as slow in the second round, for both.
    ratio = by_round("x", "ratio", [90.0, 45.0, 80.0], [100.0, 50.0, 100.0])

    assert ratio.values == (0.9, 0.9, 0.8)
    assert ratio.median == 0.9
    assert by_round("x", "ratio", [], []).missing


def test_a_quantile_is_one_of_the_values_and_four_digits_are_kept() -> None:
    values = [float(each) for each in range(1, 101)]

    assert quantile(values, 0.5) == 51.0
    assert quantile(values, 0.95) == 96.0
    assert quantile([7.0], 0.99) == 7.0
    assert (rounded(123.456), rounded(0.0123456)) == (123.5, 0.01235)


def test_rounds_stop_when_another_would_not_fit_but_one_always_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("benchmarks.harness.budget.time.monotonic", lambda: now[0])

    def done(clock: Clock, *, seconds: float) -> int:
        count = 0
        for _ in clock.rounds(10, seconds=seconds):
            count += 1
            now[0] += 10
        return count

    assert done(Clock(1000), seconds=35) == 3
    assert done(Clock(5), seconds=-1) == 1


def test_a_slow_machine_drops_small_cells_and_keeps_the_largest() -> None:
    cells = routed.cells_of(1, 10, 100)

    def kept(seconds: float) -> list[str]:
        found = routed.affordable(cells, routed.ALL, wrk_seconds=2, seconds=seconds)
        return [cell.name for cell in found]

    assert kept(340) == [cell.name for cell in cells]
    assert kept(115) == ["10 uniform", "100 uniform", "10 zipf", "100 zipf"]
    assert kept(-5) == ["100 uniform", "100 zipf"]
