"""Tests of /openapi.json: a valid schema with examples and errors for every operation."""

from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from drf_spectacular.validation import validate_schema

from tests.conftest import Company

METHODS = {"get", "post", "put", "patch", "delete"}
FIRST_EDITION = {
    ("/", "get"),
    ("/health", "get"),
    ("/ready", "get"),
    ("/org/create", "post"),
    ("/org/get", "post"),
    ("/admin/login", "post"),
}
# Whatever they answer, nobody logs in first.
OPEN = {path for path, _ in FIRST_EDITION} | {
    "/openapi.json",
    "/org/create/status/{token}",
    "/api/v1/auth/token/",
    "/api/v1/auth/token/refresh/",
    "/api/v1/auth/logout/",
    "/api/v1/auth/password-reset/",
    "/api/v1/auth/password-reset/confirm/",
    "/api/v1/auth/email/verify/",
    "/api/v1/org/thaw-link/",
    "/api/v1/org/thaw/",
    "/api/v1/org/thaw/{token}/",
}
VERSION_1 = {
    ("/api/v1/auth/token/", "post"),
    ("/api/v1/auth/token/refresh/", "post"),
    ("/api/v1/auth/logout/", "post"),
    ("/api/v1/auth/password-reset/", "post"),
    ("/api/v1/auth/password-reset/confirm/", "post"),
    ("/api/v1/auth/email/verify/", "post"),
    ("/api/v1/me/email/verification/", "post"),
    ("/api/v1/me/", "get"),
    ("/api/v1/me/", "patch"),
    ("/api/v1/me/password/", "post"),
    ("/api/v1/users/", "get"),
    ("/api/v1/users/", "post"),
    ("/api/v1/users/{id}/", "get"),
    ("/api/v1/users/{id}/", "patch"),
    ("/api/v1/organization/", "get"),
    ("/api/v1/org/thaw-link/", "post"),
    ("/api/v1/org/thaw/", "post"),
    ("/api/v1/org/thaw/{token}/", "get"),
    ("/api/v1/organizations/", "get"),
    ("/api/v1/organizations/", "post"),
    ("/api/v1/organizations/{id_or_slug}/", "get"),
    ("/api/v1/organizations/{id_or_slug}/suspend/", "post"),
    ("/api/v1/organizations/{id_or_slug}/resume/", "post"),
    ("/api/v1/organizations/{id_or_slug}/rename/", "post"),
    ("/api/v1/organizations/{id_or_slug}/delete/", "post"),
    ("/api/v1/organizations/{id_or_slug}/undelete/", "post"),
    ("/api/v1/organizations/{id_or_slug}/restore/", "post"),
    ("/api/v1/organizations/{id_or_slug}/restore/", "get"),
    ("/api/v1/organizations/{id_or_slug}/clone/", "post"),
    ("/api/v1/organizations/{id_or_slug}/clone/", "get"),
    ("/api/v1/organizations/{id_or_slug}/archive/", "post"),
    ("/api/v1/organizations/{id_or_slug}/archive/", "get"),
    ("/api/v1/organizations/{id_or_slug}/thaw/", "post"),
    ("/api/v1/organizations/{id_or_slug}/thaw/", "get"),
    ("/api/v1/organizations/{id_or_slug}/backup/", "post"),
    ("/api/v1/organizations/{id_or_slug}/verify/", "post"),
    ("/api/v1/organizations/{id_or_slug}/export/", "post"),
    ("/api/v1/organizations/{id_or_slug}/backups/", "get"),
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    answer: dict[str, Any] = Client().get("/openapi.json").json()
    return answer


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield path, method, operation


def has_example(content: dict[str, Any]) -> bool:
    """Of JSON; the forms of the browsable API are shown by it, and a file has none."""
    if set(content) == {"application/octet-stream"}:
        return True
    media = content.get("application/json") or content.get("application/vnd.oai.openapi+json", {})
    return bool(media.get("examples")) or "example" in media


def resolve(schema: dict[str, Any], media: dict[str, Any]) -> dict[str, Any]:
    reference: str = media["schema"]["$ref"]
    found: Any = schema
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    answer: dict[str, Any] = found
    return answer


def test_the_schema_is_valid_openapi_3(schema: dict[str, Any]) -> None:
    validate_schema(schema)  # type: ignore[no-untyped-call]


def test_the_contract_and_the_first_version_are_listed(schema: dict[str, Any]) -> None:
    listed = {(path, method) for path, method, _ in operations(schema)}
    assert listed >= FIRST_EDITION | VERSION_1, (FIRST_EDITION | VERSION_1) - listed


def test_every_operation_has_its_own_id_a_summary_and_examples(
    schema: dict[str, Any],
) -> None:
    ids, lacking = Counter[str](), []
    for path, method, operation in operations(schema):
        where = f"{method} {path}"
        ids[operation["operationId"]] += 1
        if not operation.get("summary"):
            lacking.append(f"{where}: summary")
        bodies = {status: each.get("content") for status, each in operation["responses"].items()}
        bodies["request"] = operation.get("requestBody", {}).get("content")
        lacking += [
            f"{where}: {of}" for of, each in bodies.items() if each and not has_example(each)
        ]
    assert lacking == []
    assert set(ids.values()) == {1}, ids


def test_the_schema_names_only_json_but_forms_are_accepted_too(
    schema: dict[str, Any], alpha: Company
) -> None:
    """Three types of each body make a generated client that cannot be imported."""
    for path, method, operation in operations(schema):
        if "requestBody" in operation:
            assert set(operation["requestBody"]["content"]) == {"application/json"}, (path, method)
    body = {"email": alpha.email, "password": alpha.password, "organization": alpha.name}
    for form in ({}, {"content_type": "application/x-www-form-urlencoded"}):
        data = urlencode(body) if form else body
        answer = Client().post("/api/v1/auth/token/", data, **form)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.content


def test_every_operation_has_its_errors_in_the_one_shape(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        errors = {
            status: response
            for status, response in operation["responses"].items()
            if status >= "400"
        }
        assert errors, f"{method} {path} names no error"
        for status, response in errors.items():
            where = f"{method} {path} {status}"
            media = response["content"]["application/json"]
            shape = resolve(schema, media)
            assert set(shape["properties"]) == {"detail", "code", "fields"}, where
            assert set(shape["required"]) == {"detail", "code"}, where
            for example in media["examples"].values():
                assert set(example["value"]) <= {"detail", "code", "fields"}, where
                assert {"detail", "code"} <= set(example["value"]), where


def test_a_filter_that_is_left_empty_is_allowed_and_filters_nothing(
    schema: dict[str, Any], alpha: Company
) -> None:
    headers = {"Authorization": f"Bearer {alpha.token(Client())}"}
    for path, listed in (("/api/v1/users/", "is_admin"), ("/api/v1/audit/", "user_id")):
        parameters = schema["paths"][path]["get"]["parameters"]
        allowed = {each["name"] for each in parameters if each.get("allowEmptyValue")}
        assert listed in allowed
        query = "&".join(f"{name}=" for name in sorted(allowed))
        assert {"page" if "users" in path else "cursor", "page_size"} <= allowed
        answers = [Client().get(f"{path}?{q}", headers=headers) for q in ("", query)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert len(answers[0].json()["results"]) == len(answers[1].json()["results"]) > 0


def test_an_operation_names_the_statuses_it_can_answer(schema: dict[str, Any]) -> None:
    expected = {
        "post /org/create": "201 409 413 415 503",
        "post /org/get": "200 404 413 415 503",
        "post /admin/login": "200 401 403 404 413 415 503",
        "post /api/v1/auth/token/": "200 401 403 404 503",
        "post /api/v1/auth/password-reset/": "202 403 404 503",
        "post /api/v1/auth/password-reset/confirm/": "204 403 503",
        "post /api/v1/users/": "201 401 403 409 503",
        "patch /api/v1/users/{id}/": "200 401 403 404 409 503",
        "patch /api/v1/me/": "200 401 409 503",
    }
    missing = {}
    for path, method, operation in operations(schema):
        # What is answered before any operation is reached.
        wanted = {"400", "414", "431", *expected.pop(f"{method} {path}", "").split()}
        if lacking := wanted - set(operation["responses"]):
            missing[f"{method} {path}"] = lacking
    assert missing == {}
    assert expected == {}


def test_open_paths_need_no_login_and_the_others_do(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        security = operation.get("security", [])
        is_open = not security or {} in security
        assert is_open == (path in OPEN), f"{method} {path}: {security}"
        assert is_open or {"401", "403", "429"} <= set(operation["responses"]), f"{method} {path}"


def test_an_act_on_an_organization_takes_an_idempotency_key(schema: dict[str, Any]) -> None:
    for act in ("suspend", "resume", "rename"):
        operation = schema["paths"][f"/api/v1/organizations/{{id_or_slug}}/{act}/"]["post"]
        (key,) = [each for each in operation["parameters"] if each["in"] == "header"]
        assert (key["name"], key.get("required", False)) == ("Idempotency-Key", False)
        assert key["schema"]["maxLength"] == 255
        assert {"200", "400", "409", "422"} <= set(operation["responses"])


def test_the_limits_are_declared_where_they_apply(schema: dict[str, Any]) -> None:
    for path in ("/org/create", "/org/get", "/admin/login", "/api/v1/auth/token/"):
        answer = schema["paths"][path]["post"]["responses"]["429"]
        assert "Retry-After" in answer["headers"], path
    assert "429" not in schema["paths"]["/health"]["get"]["responses"]


def test_staff_are_promised_no_address_of_a_deleted_organization(schema: dict[str, Any]) -> None:
    properties = schema["components"]["schemas"]["OrganizationStaffOutput"]["properties"]
    assert "format" not in properties["admin_email"], "a tombstone's address is empty"


def test_a_flag_is_a_boolean_and_a_page_size_at_least_one(schema: dict[str, Any]) -> None:
    listed = schema["paths"]["/api/v1/users/"]["get"]["parameters"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in listed}
    assert schemas["is_admin"] == schemas["is_active"] == {"type": "boolean"}
    assert schemas["page_size"]["minimum"] == 1
