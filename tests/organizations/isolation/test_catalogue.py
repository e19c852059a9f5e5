"""Every attempt of check_isolation, once. Those on models are tried in test_relations.py."""

import re
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator
from pytest_django import Settings
from rest_framework.request import Request

from organizations import tenancy
from organizations.isolation import runner
from organizations.isolation.attempts import Attempt
from organizations.isolation.stage import Stage

from .test_relations import ON_MODELS, ON_RELATIONS

ELSEWHERE = {*ON_MODELS, *ON_RELATIONS}


@pytest.fixture(autouse=True)
def _one_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt makes the OpenAPI schema once for each organization, with a login and without."""
    make: Any = SchemaGenerator.get_schema
    made: dict[tuple[tenancy.Tenant | None, bool], Any] = {}

    def make_once(generator: SchemaGenerator, request: Request, public: bool) -> Any:
        caller = (tenancy.peek(), request.user.is_authenticated)
        if caller not in made:
            made[caller] = make(generator, request, public)
        return made[caller]

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
