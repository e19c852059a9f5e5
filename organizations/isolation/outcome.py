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
    """A has reached something of B's. Says what, and never shows it."""


class Broken(Exception):
    """The attempt proves nothing: it failed for another reason than the wall it was to meet."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to cross, tried on each of its subjects: databases, endpoints, models, statements.

    run: gets the stage and the subject. Returns how it was refused; raises Crossed or Broken.
    by_nature: what PostgreSQL shows to every role. It is listed and is no crossing.
    aside: reads nothing but the server, so that subjects can be tried at the same time.
    """

    family: str
    name: str
    run: Run
    over: Over | None = None
    by_nature: bool = False
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one attempt on one subject."""

    family: str
    attempt: str
    subject: str
    outcome: Word
    how: str

    @property
    def is_failure(self) -> bool:
        """An attempt that proves nothing is no better than a crossing: nobody knows."""
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
    """Put the decorated function on the list of what is tried."""

    def add(run: Run) -> Run:
        ATTEMPTS.append(Attempt(family, name, run, over, by_nature, aside))
        return run

    return add
