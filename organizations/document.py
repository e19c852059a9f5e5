"""Writes JSON and CSV for commands, and escapes untrusted text for terminals and spreadsheets."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Document:
    """Facts, a named list, then further facts: `{"run": 1, "organizations": [], "counts": {}}`."""

    def __init__(
        self, write: Callable[[str], object], name: str, facts: Mapping[str, Any] | None = None
    ) -> None:
        self._write = write
        self._separator = "  "
        head = "".join(f"{_json({key: value})[1:-1]}, " for key, value in (facts or {}).items())
        write(f"{{{head}{_json(name)}: [")

    def add(self, facts: Mapping[str, Any]) -> None:
        """Write one row."""
        self._write(self._separator + _json(facts))
        self._separator = ", "

    def end(self, facts: Mapping[str, Any]) -> None:
        """Close the list and write the further facts."""
        self._write("], " + _json(facts)[1:])


def _json(value: object) -> str:
    """What json.dumps left unescaped is inside strings, where an escape means the same."""
    return _UNSEEN.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


# Control characters, and those that change the order of what is shown: a terminal would obey them.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
# What a spreadsheet reads as a number, whatever its sign.
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# Characters that start a formula in a spreadsheet, at the start of a cell, or after another
# separator by which a spreadsheet may split cells.
_FORMULA = re.compile(r"(^|[;|\t\r\n])(?=[\s\"']*[=+\-@＝＋－＠])|^(?=[\t\r\n])")


def visible(text: str, *, keep: str = "") -> str:
    """The text, with what a terminal would obey escaped (\\x1b, \\u202e). keep: but not these."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def csv_line(values: Iterable[str]) -> str:
    """A line of CSV in which no spreadsheet runs a cell as a formula."""
    line = io.StringIO()
    csv.writer(line).writerow(
        [value if _NUMBER.fullmatch(value) else _FORMULA.sub(r"\1'", value) for value in values]
    )
    return line.getvalue()
