"""Timing of provisioning: how a database was made, and the seconds of each step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum


class Path(StrEnum):
    """How an organization's database was made."""

    PLAIN = "plain"
    TEMPLATE = "template"
    SPARE = "spare"


@dataclass
class Report:
    """seconds: of each step, in order; for a repeated step, the sum."""

    path: Path = Path.PLAIN
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + passed

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())
