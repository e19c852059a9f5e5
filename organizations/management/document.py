"""JSON output of a command (--json): one object, streamed as its rows come."""

import json
from collections.abc import Callable, Mapping
from typing import Any


class Document:
    """A named list, then further facts: `{"organizations": [], "counts": {}}`."""

    def __init__(self, write: Callable[[str], object], name: str) -> None:
        self._write = write
        self._separator = "  "
        write(f"{{{json.dumps(name)}: [")

    def add(self, facts: Mapping[str, Any]) -> None:
        """Write one row."""
        self._write(self._separator + json.dumps(facts, ensure_ascii=False))
        self._separator = ", "

    def end(self, facts: Mapping[str, Any]) -> None:
        """Close the list and write the further facts."""
        self._write("], " + json.dumps(facts, ensure_ascii=False)[1:])
