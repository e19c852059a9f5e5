"""Isolation attempts on relations of every kind in a tenant app, with no false alarm."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import models
from django.db.models import QuerySet
from django.db.models.fields.mixins import FieldCacheMixin
from django.db.models.fields.related import ForeignObject
from pytest_django import DjangoDbBlocker

from organizations.isolation import rows
from organizations.isolation.stage import Stage
from organizations.tenancy import router
from tests.organizations.relations import Relations, tables_of

from .conftest import Try, outcomes_of

ON_MODELS = (
    "An instance of A saved in B",
    "An instance of A deleted or refreshed in B",
    "Instances of A written in bulk in B",
    "An instance of A used in B's queries and forms",
    "A query in B that names A's alias: using=",
    "A query in A that names B's alias: using=",
    "A query set made in B and read in A",
    "A query while no organization is active",
    "Rows fetched by a query set in B, read in A",
    "An instance of B in a response of A's",
    "A write of A's inside a bare transaction.atomic()",
)
RELATED = "A row of B set as a relation in A, or used in a query"
FOLLOWED = "A relation of A's followed in B, forwards and backwards"
KEPT = "Related objects loaded in B, read in A"
ON_RELATIONS = (RELATED, FOLLOWED, KEPT)


@pytest.fixture(scope="module")
def _tables(_stage: Stage, django_db_blocker: DjangoDbBlocker) -> Iterator[Relations]:
    relations = Relations()
    with (
        django_db_blocker.unblock(),
        tables_of(relations, _stage.ours.tenant, _stage.theirs.tenant),
    ):
        yield relations


@pytest.fixture
def app(_tables: Relations, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Relations:
    """A tenant app with those models; its `isolation` makes rows of what it has written itself."""
    own, makers = rows.tenant_models(), rows.makers()
    monkeypatch.setattr(rows, "tenant_models", lambda: [*own, *_tables.written, *_tables.throughs])
    made = {model._meta.label: (lambda domain, _: None) for model in _tables.written}
    made["accounts.Person"] = lambda domain, _: _tables.plant(domain)
    monkeypatch.setattr(rows, "makers", lambda: {**makers, **made})
    stage.plant()
    # A many-to-many's own table needs no function that makes its rows.
    assert not rows.uncovered_models(rows.tenant_models())
    return _tables


def labels(models_of: list[type[models.Model]]) -> set[str]:
    return {model._meta.label for model in models_of}


def test_every_attempt_on_models_of_every_kind_is_refused(app: Relations, try_: Try) -> None:
    models_of = labels([*rows.tenant_models(), *app.written, *app.throughs])
    for name in ON_MODELS:
        results = try_(name)
        assert [each for each in results if each.outcome != "refused"] == []
        tried = {result.subject for result in results}
        assert tried == {""} or tried >= models_of, name


def test_every_attempt_on_relations_of_every_kind_is_refused(app: Relations, try_: Try) -> None:
    for name in ON_RELATIONS:
        results = try_(name)
        assert [each for each in results if each.outcome != "refused"] == []
        assert {result.subject for result in results} >= {
            "accounts.Club.members",
            "accounts.Club.hidden",
            "accounts.Club.guests",
            "accounts.Club.friends",
            "accounts.Club.parent",
            "accounts.Club_members.club",
            "accounts.Visit.asked_by",
            "accounts.Badge.person",
            "accounts.Badge.lent_to",
            "accounts.Captain.person_ptr",
        }, name


def test_relations_without_their_guard_are_found(
    app: Relations, try_: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router, "refuse_other_alias", lambda what, home, alias: None)
    for name in ON_RELATIONS:
        found = outcomes_of(try_, name)
        assert {found[key] for key in ("accounts.Club.members", "accounts.Visit.person")} == {
            "crossed"
        }, found


def test_a_relation_kept_from_another_organization_is_found(
    app: Relations, try_: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[Any, str]] = [
        (FieldCacheMixin, "get_cached_value"),
        (ForeignObject, "get_foreign_related_value"),
    ]
    for owner, method in looks:
        monkeypatch.setattr(owner, method, getattr(owner, method).__wrapped__)
    found = outcomes_of(try_, KEPT)
    assert (found["accounts.Visit.person"], found["accounts.Club.members"]) == (
        "crossed",
        "refused",
    )
    monkeypatch.delattr(QuerySet, "_result_cache")
    assert outcomes_of(try_, KEPT)["accounts.Club.members"] == "crossed"
