"""Draws SVG plots without a library: bars with their ranges, and lines.

The colours can be told apart on white and on a dark page, and every bar and line has its name
beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = ("#2f6db3", "#c8553d", "#3d8b5f", "#8a5fb0", "#b58a1e", "#4a9aa5", "#7a7a7a")
_FONT = "font-family='system-ui, sans-serif'"
_WIDTH = 760
_LABEL_WIDTH = 230
_BAR_HEIGHT = 20


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, its range, and its group."""

    label: str
    value: float
    low: float
    high: float
    group: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line through its points, from left to right."""

    label: str
    points: tuple[tuple[float, float], ...]


def bars(title: str, unit: str, drawn: Sequence[Bar]) -> str:
    """Horizontal bars in groups; a thin line shows each one's lowest and highest round."""
    colours: dict[str, str] = {}
    for bar in drawn:
        colours.setdefault(bar.label, _COLOURS[len(colours) % len(_COLOURS)])
    longest = max((bar.high for bar in drawn), default=1.0) or 1.0
    scale = (_WIDTH - _LABEL_WIDTH - 90) / longest
    parts, y, group = [], 50.0, None
    for bar in drawn:
        if bar.group != group:
            group = bar.group
            y += 10
            if group:
                parts.append(_text(10, y + 14, group, weight="bold"))
                y += 22
        length = bar.value * scale
        middle = y + _BAR_HEIGHT / 2
        parts.append(_text(_LABEL_WIDTH - 8, y + 15, bar.label, anchor="end"))
        parts.append(
            f"<rect x='{_LABEL_WIDTH}' y='{y:.1f}' width='{length:.1f}' height='{_BAR_HEIGHT - 4}' "
            f"fill='{colours[bar.label]}' transform='translate(0 2)'/>"
        )
        parts.append(
            _stroke(bar.low * scale + _LABEL_WIDTH, middle, bar.high * scale + _LABEL_WIDTH)
        )
        at = _LABEL_WIDTH + max(length, bar.high * scale) + 6
        parts.append(_text(at, y + 15, _number(bar.value)))
        y += _BAR_HEIGHT + 4
    return _page(title, unit, y + 16, parts)


def lines(title: str, unit: str, across: str, drawn: Sequence[Line]) -> str:
    """Lines over a logarithmic axis; the vertical one begins at 0."""
    height, left, bottom = 340, 70, 290
    points = [point for line in drawn for point in line.points]
    xs = [math.log10(max(x, 1.0)) for x, _ in points]
    first, last = min(xs, default=0.0), max(xs, default=1.0)
    top = _ceiling(max((y for _, y in points), default=1.0))
    right = _WIDTH - 190

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(max(x, 1.0)) - first) / ((last - first) or 1.0)
        return left + share * (right - left), bottom - (bottom - 60) * y / top

    parts = []
    for step in range(5):
        value = top * step / 4
        _, y = place(1, value)
        parts.append(f"<line x1='{left}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}' stroke='#bbb'/>")
        parts.append(_text(left - 8, y + 4, _number(value), anchor="end"))
    for x in sorted({x for x, _ in points}):
        parts.append(_text(place(x, 0)[0], bottom + 20, f"{x:,.0f}", anchor="middle"))
    parts.append(_text((left + right) / 2, bottom + 42, across, anchor="middle"))
    taken: list[float] = []
    for number, line in enumerate(drawn):
        colour = _COLOURS[number % len(_COLOURS)]
        placed = [place(x, y) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in placed]
        at = placed[-1][1] + 4
        while any(abs(at - other) < 15 for other in taken):
            at -= 15
        taken.append(at)
        parts.append(_text(right + 10, at, line.label, fill=colour))
    return _page(title, unit, height, parts)


def _ceiling(value: float) -> float:
    """A round number above the value."""
    if value <= 0:
        return 1.0
    power: float = 10 ** math.floor(math.log10(value))
    return next(
        factor * power for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if factor * power >= value
    )


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    weight: str = "normal",
    fill: str = "#333",
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {_FONT} font-size='13' font-weight='{weight}' "
        f"text-anchor='{anchor}' fill='{fill}'>{escape(words)}</text>"
    )


def _stroke(low: float, y: float, high: float) -> str:
    return f"<line x1='{low:.1f}' x2='{high:.1f}' y1='{y:.1f}' y2='{y:.1f}' stroke='#222'/>"


def _page(title: str, unit: str, height: float, parts: Sequence[str]) -> str:
    head = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height:.0f}' "
        f"width='{_WIDTH}' height='{height:.0f}' role='img'>",
        f"<title>{escape(title)}</title>",
        f"<rect width='{_WIDTH}' height='{height:.0f}' fill='white'/>",
        f"<text x='10' y='24' {_FONT} font-size='16' font-weight='bold' fill='#222'>"
        f"{escape(title)}</text>",
        _text(10, 43, unit),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"
