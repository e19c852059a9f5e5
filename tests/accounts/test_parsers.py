"""JSON that different readers would read differently is refused."""

import pytest
from django.test import Client

from tests.http.server import assert_one_shape

PATHS = ("/org/create", "/org/get", "/admin/login?organization_name=x", "/api/v1/auth/token/")
TWICE = (
    b'{"email": "a@b.example", "email": "c@d.example"}',
    b'{"organization_name": "x", "organization_name": "x"}',
    b'{"a": {"b": 1, "b": 2}}',
    b'{"a": [{"b": 1, "\\u0062": 2}]}',
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", TWICE)
def test_a_name_that_one_object_holds_twice_is_refused(path: str, body: bytes) -> None:
    answer = Client().post(path, body, content_type="application/json")
    error = assert_one_shape(answer, 400)
    assert error == {"detail": "The JSON has a duplicate name in an object.", "code": "parse_error"}


def test_a_name_may_come_again_in_another_object() -> None:
    body = b'{"email": {"a": 1}, "password": {"a": 1}, "organization": [{"a": 1}, {"a": 2}]}'
    answer = Client().post("/api/v1/auth/token/", body, content_type="application/json")
    assert set(assert_one_shape(answer, 400)["fields"]) == {"email", "password", "organization"}
