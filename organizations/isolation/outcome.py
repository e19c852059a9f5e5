"""The outcome of one attempt of an isolation check."""

from dataclasses import dataclass
from typing import Literal

Word = Literal["refused", "crossed", "broken", "visible"]


class Crossed(Exception):
    """A reached something of B's. Says what, without showing it."""


class Broken(Exception):
    """The attempt proves nothing: it failed for an unrelated reason."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one attempt on one subject."""

    family: str
    attempt: str
    subject: str
    outcome: Word
    how: str

    @property
    def is_failure(self) -> bool:
        """An attempt that proves nothing counts as a failure too."""
        return self.outcome in ("crossed", "broken")
