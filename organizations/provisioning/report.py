"""Timing of provisioning: how a database was made, and the seconds of each step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum


class Path(StrEnum):
    """From where an organization has its database."""

    PLAIN = "plain"
    TEMPLATE = "template"
    SPARE = "spare"


@dataclass
class Report:
    """seconds: of each step, in the order of the steps; of a step that was begun anew, the sum."""

    path: Path = Path.PLAIN
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens in the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + passed

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())
