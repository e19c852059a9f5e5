"""Attempt: one attack of the isolation check, and the decorator that registers it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .stage import Stage

Run = Callable[[Stage, str], str]
Over = Callable[[Stage], Sequence[str]]


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
