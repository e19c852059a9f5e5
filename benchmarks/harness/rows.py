"""Result rows: one measurement each, kept as JSON."""

import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

Fact = float | int | str | None


@dataclass(frozen=True)
class Row:
    """One measurement. values: one for each round; facts: what else was seen, by name.

    missing: why there is no value.
    """

    key: str
    unit: str
    values: tuple[float, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    missing: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def as_json(self) -> dict[str, Any]:
        """The row as it is stored."""
        told: dict[str, Any] = {"key": self.key, "unit": self.unit}
        if self.missing:
            return told | {"missing": self.missing}
        # From the values as stored, so that a reader calculates the same.
        values = [rounded(each) for each in self.values]
        told |= {"median": rounded(statistics.median(values)), "low": min(values)}
        told |= {"high": max(values), "values": values}
        return told | {"facts": {name: _tidy(fact) for name, fact in self.facts.items()}}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        return cls(
            key=told["key"],
            unit=told["unit"],
            values=tuple(told.get("values", ())),
            facts=told.get("facts", {}),
            missing=told.get("missing", ""),
        )


class Rows:
    """Rows by key, in the order they were added."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows = {row.key: row for row in rows}
        # Those that were found, in order.
        self.read: list[Row] = []

    def add(self, *rows: Row) -> None:
        """Add these rows; they replace rows with the same key."""
        for row in rows:
            self._rows[row.key] = row

    def find(self, key: str) -> Row | None:
        """The row, if it was measured."""
        row = self._rows.get(key)
        if row is None or not row.values:
            return None
        self.read.append(row)
        return row

    def below(self, prefix: str) -> list[Row]:
        """The rows whose key begins with this."""
        return [row for key, row in self._rows.items() if key.startswith(prefix)]

    def all(self) -> list[Row]:
        return list(self._rows.values())


def by_round(key: str, unit: str, first: Sequence[float], second: Sequence[float]) -> Row:
    """The ratio of two variants that took turns, round by round."""
    ratios = [one / other for one, other in zip(first, second, strict=False) if other]
    if not ratios:
        return Row(key, unit, missing="one of the two was not measured")
    return Row(key, unit, tuple(ratios))


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values is below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def rounded(value: float) -> float:
    """Four significant digits: more would not be repeatable."""
    return float(f"{value:.4g}")


def _tidy(fact: Fact) -> Fact:
    return rounded(fact) if isinstance(fact, float) else fact


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Replace the file in one step: a killed run leaves the old one or the new one."""
    aside = file.with_name(f"{file.name}.new")
    aside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    os.replace(aside, file)
