"""Every attempt of check_isolation, once. Those on models are tried in test_relations.py."""

import re
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator
from pytest_django import Settings

from organizations.isolation import runner
from organizations.isolation.attempts import Attempt
from organizations.isolation.stage import Stage

from .test_relations import ON_MODELS, ON_RELATIONS

ELSEWHERE = {*ON_MODELS, *ON_RELATIONS}


@pytest.fixture(autouse=True)
def _one_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """The OpenAPI schema is made by the first request of an attempt, and kept for its others."""
    make: Any = SchemaGenerator.get_schema
    made: list[Any] = []

    def make_once(*args: Any, **options: Any) -> Any:
        if not made:
            made.append(make(*args, **options))
        return made[0]

    monkeypatch.setattr(SchemaGenerator, "get_schema", make_once)


@pytest.mark.parametrize(
    "attempt",
    [each for each in runner.attempts() if each.name not in ELSEWHERE],
    ids=lambda each: f"{each.family}: {each.name}",
)
def test_every_attempt_is_refused_and_tells_no_secret(
    stage: Stage, settings: Settings, attempt: Attempt
) -> None:
    """On an installation with a base domain, without sign-up, whose throttle it would meet."""
    settings.ORG_BASE_DOMAIN, settings.ORG_SIGNUP = "example.com", "off"
    settings.THROTTLES, settings.THROTTLE_MEMBER = True, "1/day"
    results = list(runner.run(stage, chosen=(attempt,)))
    wanted = "visible" if attempt.by_nature else "refused"
    assert [each for each in results if each.outcome != wanted] == []
    assert results
    # A token or a hash.
    assert not re.search("eyJ|argon2", str(results))
