"""What a command prints with --json: one document, an object, written as it comes."""

import json
from collections.abc import Callable, Mapping
from typing import Any


class Document:
    """A list under its name, and what is said behind it: `{"organizations": [], "counts": {}}`."""

    def __init__(self, write: Callable[[str], object], name: str) -> None:
        self._write = write
        self._separator = "  "
        write(f"{{{json.dumps(name)}: [")

    def add(self, facts: Mapping[str, Any]) -> None:
        """One more of the list."""
        self._write(self._separator + json.dumps(facts, ensure_ascii=False))
        self._separator = ", "

    def end(self, facts: Mapping[str, Any]) -> None:
        """The list is whole."""
        self._write("], " + json.dumps(facts, ensure_ascii=False)[1:])
