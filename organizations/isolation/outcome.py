"""Attempt and Result of an isolation check, and the decorator that registers an attempt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .stage import Stage

Word = Literal["refused", "crossed", "broken", "visible"]
Run = Callable[["Stage", str], str]
Over = Callable[["Stage"], Sequence[str]]


class Crossed(Exception):
    """A reached something of B's. Says what, without showing it."""


class Broken(Exception):
    """The attempt proves nothing: it failed for an unrelated reason."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attack, tried on each of its subjects: databases, endpoints, models, statements.

    run: gets the stage and the subject. Returns how it was refused; raises Crossed or Broken.
    by_nature: PostgreSQL shows this to every role; listed, but no crossing.
    aside: only reads the server, so subjects can be tried in parallel.
    """

    family: str
    name: str
    run: Run
    over: Over | None = None
    by_nature: bool = False
    aside: bool = False


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


ATTEMPTS: list[Attempt] = []


def attempt(
    family: str,
    name: str,
    *,
    over: Over | None = None,
    by_nature: bool = False,
    aside: bool = False,
) -> Callable[[Run], Run]:
    """Register the decorated function as an attempt."""

    def add(run: Run) -> Run:
        ATTEMPTS.append(Attempt(family, name, run, over, by_nature, aside))
        return run

    return add
