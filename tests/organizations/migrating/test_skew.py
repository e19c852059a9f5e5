"""Code and databases of two versions at once, as during a deploy."""

import secrets

import pytest
from django.test import Client
from pytest_django import Settings

from organizations import lifecycle
from organizations.provisioning import code, versions
from organizations.tenancy import registry
from tests.conftest import PASSWORD

from .added import ADD_FIELD
from .conftest import Add, Fleet

EMAIL = "admin@fleet.example"


def log_in(fleet: Fleet, client: Client) -> object:
    return client.post(
        "/api/v1/auth/token/",
        {"organization": fleet.rows[0].name, "email": EMAIL, "password": PASSWORD},
        content_type="application/json",
    )


def token(fleet: Fleet, client: Client) -> dict[str, str]:
    answer = log_in(fleet, client)
    assert answer.status_code == 200, answer.content  # type: ignore[attr-defined]
    return {"authorization": f"Bearer {answer.json()['access']}"}  # type: ignore[attr-defined]


def test_an_organization_that_lacks_a_migration_is_answered_503_alone(
    four: Fleet, add: Add, client: Client
) -> None:
    ours = token(four, client)
    add(note=ADD_FIELD)
    four.query.filter(pk=four.rows[1].pk).update(fingerprint=code.current().fingerprint)
    registry.forget(four.rows[0].tenant.alias)  # New code is a new process.
    for answer in (client.get("/api/v1/me/", headers=ours), log_in(four, client)):
        assert answer.status_code == 503  # type: ignore[attr-defined]
        assert answer.headers["Retry-After"] == "2"  # type: ignore[attr-defined]
        assert answer.json() == {  # type: ignore[attr-defined]
            "detail": f"The organization {four.rows[0].name!r} is being upgraded right now. "
            "Try again shortly.",
            "code": "organization_migrating",
        }
    other = client.post(
        "/api/v1/auth/token/",
        {"organization": four.rows[1].name, "email": "nobody@x.example", "password": "wrong"},
        content_type="application/json",
    )
    assert other.status_code == 401
    four.query.update(fingerprint="")


def test_one_that_is_ahead_of_the_code_is_served(
    four: Fleet, add: Add, client: Client, settings: Settings
) -> None:
    add(note=ADD_FIELD)
    four.run()
    newer = settings.MIGRATION_MODULES
    settings.MIGRATION_MODULES = {}
    ours = token(four, client)
    assert client.get("/api/v1/me/", headers=ours).status_code == 200
    settings.MIGRATION_MODULES = newer


def test_an_unknown_fingerprint_is_served_and_with_serve_any(
    four: Fleet, add: Add, client: Client, settings: Settings
) -> None:
    ours = token(four, client)
    settings.ORG_VERSION_SKEW = "serve"
    add(note=ADD_FIELD)
    assert client.get("/api/v1/me/", headers=ours).status_code == 200
    settings.ORG_VERSION_SKEW = "strict"
    for fingerprint in ("", "f" * 64):
        four.query.update(fingerprint=fingerprint)
        assert client.get("/api/v1/me/", headers=ours).status_code == 200
    four.query.update(fingerprint="")


def test_what_may_not_be_found_out_by_a_name_is_not_told_by_a_deploy(
    four: Fleet, add: Add, client: Client, settings: Settings
) -> None:
    settings.ORG_PUBLIC_LOOKUP = "off"
    add(note=ADD_FIELD)
    answer = log_in(four, client)
    assert answer.status_code == 401  # type: ignore[attr-defined]
    assert answer.json()["code"] == "invalid_credentials"  # type: ignore[attr-defined]


def test_a_sign_up_during_a_deploy_gets_the_fingerprint_of_its_code(add: Add) -> None:
    found = []
    for operations in ({}, {"note": ADD_FIELD}):
        add(**operations)
        made = lifecycle.create_organization(
            name=f"Deploy {secrets.token_hex(4)}", email=EMAIL, password=PASSWORD
        ).organization
        try:
            made.refresh_from_db()
            assert made.fingerprint == code.current().fingerprint
            found.append(versions.migrations_of(made.fingerprint))
        finally:
            lifecycle.delete_organization(made)
    assert found[1] - found[0] == {"accounts.0004_note"}  # type: ignore[operator]


def test_a_squashed_migration_is_there_where_those_it_replaces_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replacing = {"a.0001": (), "a.0002": (), "a.0001_squashed": ("a.0001", "a.0002")}
    monkeypatch.setattr(versions, "_replacing", lambda: replacing)
    for has, lacks in (
        ({"a.0001", "a.0002"}, []),
        ({"a.0001_squashed"}, []),
        ({"a.0001"}, ["a.0001_squashed", "a.0002"]),
    ):
        assert versions.lacking(frozenset(has)) == lacks
