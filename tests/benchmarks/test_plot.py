"""Tests of SVG plots: well-formed, and drawn to scale."""

from xml.etree import ElementTree

import pytest

from benchmarks.harness.rows import Row, Rows
from benchmarks.reporting import plots
from benchmarks.reporting.plot import Bar, bars

pytestmark = pytest.mark.pure

_SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter(f"{_SVG}text")]  # noqa: S314 - our own


def test_bars_are_in_proportion_and_named() -> None:
    svg = bars("A & B", "ms", [Bar("one", 50, 40, 60, "g"), Bar("two", 100, 90, 120, "g")])
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    _, first, second = (float(each.attrib["width"]) for each in root.iter(f"{_SVG}rect"))

    assert abs(second - 2 * first) < 0.2
    assert {"A & B", "ms", "g", "one", "two", "50", "100"} <= set(texts(svg))


def test_a_plot_without_rows_is_left_out() -> None:
    rows = Rows(
        [
            Row("routed/1000 zipf/ours, ceiling 64/of plain", "ratio", (0.6, 0.7)),
            Row("routed/1000 zipf/plain", "/s", (500.0, 510.0)),
            Row("sign-up/spare/sequential", "ms", missing="not measured"),
        ]
    )
    drawn = plots.draw(rows)

    assert list(drawn) == ["routed"]
    assert "1,000 organizations, zipf" in texts(drawn["routed"])
    assert "plain" not in texts(drawn["routed"]), "plain is 1 by definition"
