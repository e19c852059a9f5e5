"""Fixture: two throw-away organizations for a module, made as check_isolation makes them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from pytest_django import DjangoDbBlocker

from organizations.isolation import runner
from organizations.isolation.attempts import Attempt
from organizations.isolation.outcome import Result
from organizations.isolation.stage import Stage, staged

Try = Callable[..., list[Result]]


@pytest.fixture(scope="module")
def _stage(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Stage]:
    with django_db_blocker.unblock(), staged() as stage:
        yield stage


@pytest.fixture
def stage(_stage: Stage, _database: None) -> Stage:
    """A and B, with equal rows under equal keys."""
    _stage.forgive()  # Plants again what the last test has changed.
    return _stage


def attempt_named(name: str) -> Attempt:
    """The one attempt of this name."""
    (found,) = (each for each in runner.attempts() if each.name == name)
    return found


@pytest.fixture
def try_(stage: Stage) -> Try:
    """The outcomes of an attempt by name, on all of its subjects or the given ones."""

    def run(name: str, *subjects: str) -> list[Result]:
        attempt = attempt_named(name)
        if subjects:
            attempt = replace(attempt, over=lambda stage: subjects)
        return list(runner.run(stage, chosen=(attempt,)))

    return run


def outcomes_of(try_: Try, name: str) -> dict[str, str]:
    """What came of an attempt on each of its subjects."""
    return {result.subject: result.outcome for result in try_(name)}
