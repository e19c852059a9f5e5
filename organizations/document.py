"""JSON output of a command (--json): one object, streamed as its rows come."""

import json
from collections.abc import Callable, Mapping
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
    return json.dumps(value, ensure_ascii=False)
