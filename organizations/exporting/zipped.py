"""Writes a ZIP whose last entry, manifest.json, has each other one's size and SHA-256."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, time
from typing import IO, Any, Self
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

MANIFEST = "manifest.json"


class Part:
    """An entry that is being written, in blocks or in rows."""

    def __init__(self, stream: IO[bytes], spend: Callable[[int], None], *, has_rows: bool) -> None:
        self._stream = stream
        self._spend = spend
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._rows = 0 if has_rows else None

    def write(self, block: bytes) -> None:
        """Append the bytes."""
        self._spend(len(block))
        self._stream.write(block)
        self._digest.update(block)
        self._bytes += len(block)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a line of JSON."""
        finite = {
            # JSON has no NaN and no infinity.
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        text = json.dumps(finite, cls=_Encoder, ensure_ascii=False, allow_nan=False)
        self.write(text.encode() + b"\n")
        self._rows = (self._rows or 0) + 1

    def facts(self) -> dict[str, Any]:
        """rows, only if it has some; bytes; sha256."""
        rows = {} if self._rows is None else {"rows": self._rows}
        return {**rows, "bytes": self._bytes, "sha256": self._digest.hexdigest()}


class Archive:
    """A ZIP in a file that can be sought, which stays open longer than this.

    spend: called with the number of bytes before they are written; what it raises ends the writing.
    Memory grows only with the number of entries.
    """

    def __init__(self, file: IO[bytes], spend: Callable[[int], None]) -> None:
        self._zip = ZipFile(file, "w")
        self._spend = spend
        self.parts: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    @contextmanager
    def part(self, name: str, *, has_rows: bool) -> Iterator[Part]:
        """A new entry; one at a time. has_rows: it is lines of JSON, which are counted."""
        self._spend(0)
        with self._zip.open(self._info(name), "w", force_zip64=True) as stream:
            part = Part(stream, self._spend, has_rows=has_rows)
            yield part
        self.parts.append({"name": name, **part.facts()})

    def end(self, facts: Mapping[str, Any]) -> None:
        """Write the manifest, with these facts."""
        text = json.dumps({**facts, "parts": self.parts}, ensure_ascii=False, indent=1)
        with self._zip.open(self._info(MANIFEST), "w", force_zip64=True) as stream:
            stream.write(text.encode())

    def _info(self, name: str) -> ZipInfo:
        info = ZipInfo(name, timezone.now().timetuple()[:6])
        info.compress_type = ZIP_DEFLATED
        info.external_attr = 0o600 << 16
        return info


class _Encoder(DjangoJSONEncoder):
    """Django's own, without cutting times to milliseconds."""

    def default(self, o: Any) -> Any:
        return o.isoformat() if isinstance(o, datetime | time) else super().default(o)
