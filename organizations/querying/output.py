"""Output of query_orgs: table, CSV or JSON, as the answers come. Values are strangers' text."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.cells import cell_len

from organizations.document import Document, csv_line, visible

from .reading import Answer, Column

Write = Callable[[str], object]
# Longer ones are cut in the table, and the other formats have them whole.
_LONGEST_CELL = 200
_WIDEST_COLUMN = 50
_BOOLEAN = 16
_INTEGERS = frozenset((20, 21, 23, 26))
# The organization's name, before the statement's own columns.
_FIRST = "organization"


class View(Protocol):
    """Output of a run."""

    def show(self, answer: Answer) -> None:
        """Show an organization's answer."""
        ...

    def end(self, counts: Mapping[str, int]) -> None:
        """Show the totals: organizations, rows, failed."""
        ...


class Table:
    """Aligned columns, with their names again where they change; errors go to `err`."""

    def __init__(self, out: Write, err: Write) -> None:
        self._out, self._err = out, err
        self._columns: tuple[Column, ...] = ()
        self._widths: list[int] = []

    def show(self, answer: Answer) -> None:
        _tell(answer, self._err)
        if not answer.rows:
            return
        name = _cell(answer.organization.name)
        head = [_FIRST, *(_cell(column.name) for column in answer.columns)]
        rows = [[name, *map(_cell, row)] for row in answer.rows]
        is_new = answer.columns != self._columns
        before = [0] * len(head) if is_new else self._widths
        self._widths = [
            min(_WIDEST_COLUMN, max(width, *(cell_len(row[index]) for row in (head, *rows))))
            for index, width in enumerate(before)
        ]
        if is_new:
            self._columns = answer.columns
            self._line(head)
            self._line(["-" * width for width in self._widths])
        for row in rows:
            self._line(row)

    def end(self, counts: Mapping[str, int]) -> None:
        self._out(f"{counts['rows']} rows, {counts['organizations']} organizations")

    def _line(self, cells: list[str]) -> None:
        padded = [
            cell + " " * (width - cell_len(cell))
            for cell, width in zip(cells, self._widths, strict=True)
        ]
        self._out("  ".join(padded).rstrip())


class Csv:
    """The organization's name first, and a new line of names where the columns change."""

    def __init__(self, out: Write, err: Write) -> None:
        self._out, self._err = out, err
        self._names: list[str] = []

    def show(self, answer: Answer) -> None:
        _tell(answer, self._err)
        if answer.error:
            return
        names = [_FIRST, *(_csv(column.name) for column in answer.columns)]
        if names != self._names:
            self._names = names
            self._out(csv_line(names))
        name = _csv(answer.organization.name)
        for row in answer.rows:
            self._out(csv_line([name, *map(_csv, row)]))

    def end(self, counts: Mapping[str, int]) -> None:
        """Nothing: what comes last would be read as a row."""


class Json:
    """One document: an object for each organization, with its columns and rows, or its error."""

    def __init__(self, out: Write) -> None:
        self._document = Document(out, "organizations")

    def show(self, answer: Answer) -> None:
        row = answer.organization
        facts: dict[str, Any] = {"id": row.pk, "name": row.name, "slug": row.slug}
        if answer.error:
            self._document.add(facts | {"error": answer.error})
            return
        self._document.add(
            facts
            | {
                "columns": [column.name for column in answer.columns],
                "rows": [list(map(_value, answer.columns, each)) for each in answer.rows],
                "has_more": answer.has_more,
            }
        )

    def end(self, counts: Mapping[str, int]) -> None:
        names = ("organizations", "rows", "failed")
        self._document.end({"counts": {name: counts[name] for name in names}})


def count(counts: "Counter[str]", answer: Answer) -> None:
    """Add the answer to the totals."""
    counts["organizations"] += 1
    counts["rows"] += len(answer.rows)
    counts["failed"] += bool(answer.error)


def _tell(answer: Answer, err: Write) -> None:
    said = answer.error
    if answer.has_more:
        said = f"only the first {len(answer.rows)} rows: there are more (--limit)"
    if said:
        err(f"{visible(answer.organization.name)}: {visible(said)}")


def _cell(value: str | None) -> str:
    text = visible((value or "")[: _LONGEST_CELL + 1])
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"


def _csv(value: str | None) -> str:
    return visible(value or "", keep="\n\t")


def _value(column: Column, value: str | None) -> str | int | bool | None:
    """Only integers and booleans are converted: JSON has no exact decimals, dates or NaN."""
    if value is None:
        return None
    if column.type_oid == _BOOLEAN:
        return value == "t"
    return int(value) if column.type_oid in _INTEGERS else value
