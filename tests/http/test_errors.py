"""Invalid bodies and credentials at every endpoint: refused in one error format, and never a 500.

In this process; tests/http/test_hostile_paths.py has what needs a real connection.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from organizations import tenancy
from tests.accounts.helpers import client_of
from tests.conftest import PASSWORD, Company

from .server import assert_one_shape

JSON = "application/json"
EMAIL = "admin@alpha.example"


@dataclass(frozen=True)
class Endpoint:
    """body: one that would be accepted. others: methods that it has besides."""

    method: str
    path: str
    body: Mapping[str, Any]
    is_for_members: bool = False
    others: tuple[str, ...] = ()

    def send(self, client: Client, data: bytes, content_type: str = JSON) -> Any:
        return client.generic(self.method, self.path, data, content_type=content_type)


AUTH, ONE = "/api/v1/auth", "/api/v1/users/1/"
CHANGE = {"email": EMAIL, "is_admin": True, "is_active": True}
NEW_USER = {"email": "b@new.example", "password": PASSWORD, "is_admin": True}
SIGN_UP = {"email": "a@new.example", "password": PASSWORD, "organization_name": "Hostile"}
LOGIN = {"email": EMAIL, "password": PASSWORD}
RESET = {"token": "a.b.c", "new_password": PASSWORD}
MY_PASSWORD = {"current_password": PASSWORD, "new_password": "another good passphrase"}
ENDPOINTS = {
    "sign-up": Endpoint("POST", "/org/create", SIGN_UP),
    "lookup": Endpoint("POST", "/org/get", {"organization_name": "Acme Corp"}),
    "admin login": Endpoint("POST", "/admin/login?organization_name=X", LOGIN, others=("GET",)),
    "login": Endpoint("POST", f"{AUTH}/token/", {**LOGIN, "organization": "Acme Corp"}),
    "refresh": Endpoint("POST", f"{AUTH}/token/refresh/", {"refresh": "a.b.c"}),
    "logout": Endpoint("POST", f"{AUTH}/logout/", {"refresh": "a.b.c"}),
    "ask": Endpoint("POST", f"{AUTH}/password-reset/", {"organization": "Acme", "email": EMAIL}),
    "reset": Endpoint("POST", f"{AUTH}/password-reset/confirm/", RESET),
    "verify": Endpoint("POST", f"{AUTH}/email/verify/", {"token": "a.b.c"}),
    "me": Endpoint("PATCH", "/api/v1/me/", {"email": EMAIL}, True, ("GET",)),
    "my password": Endpoint("POST", "/api/v1/me/password/", MY_PASSWORD, True),
    "add": Endpoint("POST", "/api/v1/users/", NEW_USER, True, ("GET",)),
    "change": Endpoint("PATCH", ONE, CHANGE, True, ("GET", "PUT", "DELETE")),
    "replace": Endpoint("PUT", ONE, CHANGE, True, ("GET", "PATCH", "DELETE")),
}
NO_TEXTS: list[object] = [7, 1.5, True, None, ["x"], {"$ne": "x"}, ""]
NO_FLAGS: list[object] = [1, 0, None, "yes", "true", "", [True], {"x": 1}]
DUPLICATES = [
    b'{"email": "a@b.example", "email": "c@d.example"}',
    b'{"a": {"b": 1, "b": 2}}',
    b'{"a": [{"b": 1, "\\u0062": 2}]}',
]
SIMPLE = [b"{bad", b'{"email": "a\x00b"}', b"[]", DUPLICATES[0]]
BODIES = [
    *SIMPLE,
    *DUPLICATES,
    b'{"email": "a',
    b"{} {}",
    b"null",
    b'{"email": "a\\u0000b"}',
    b'{"a\\u0000b": "x"}',
    b'{"email": "a\\ud800b"}',
    b'{"a\\udfff": "x"}',
    b'{"email": ["\\udc00"]}',
    b'{"email": "a\xff\xfeb"}',
    b'{"email": "a\xc0\x80b"}',
    '{"email": "a"}'.encode("utf-16"),
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"email":' + b"[" * 1_000 + b"]" * 1_000 + b"}",
    b'{"email": ' + b"9" * 50_000 + b"}",
    b'{"email": 1e999999}',
    b'{"email": NaN}',
]


@pytest.fixture
def clients(alpha: Company) -> dict[str, Client]:
    """For each endpoint a stranger, or alpha's admin where the endpoint is for members."""
    with tenancy.override(alpha.tenant):
        admin = client_of(alpha, User.objects.get(email=alpha.email))
    return {name: admin if each.is_for_members else Client() for name, each in ENDPOINTS.items()}


def test_a_body_that_is_no_valid_json_object_is_a_400(clients: dict[str, Client]) -> None:
    for name, endpoint in ENDPOINTS.items():
        # One parser reads them all; all bodies are for one endpoint of each kind.
        for data in BODIES if name in ("sign-up", "logout", "change") else SIMPLE:
            # A logout whose body names no token is refused for that.
            statuses = (400, 401) if name == "logout" else (400,)
            detail = assert_one_shape(endpoint.send(clients[name], data), *statuses)["detail"]
            assert detail.endswith("."), (name, data[:50], detail)
            assert "sys." not in detail and "codec" not in detail, (name, data[:50], detail)


def test_a_name_that_one_object_holds_twice_is_refused() -> None:
    for data in DUPLICATES:
        error = assert_one_shape(ENDPOINTS["login"].send(Client(), data), 400)
        duplicate = "The JSON has a duplicate name in an object."
        assert error == {"detail": duplicate, "code": "parse_error"}
    body = b'{"email": {"a": 1}, "password": {"a": 1}, "organization": [{"a": 1}, {"a": 2}]}'
    error = assert_one_shape(ENDPOINTS["login"].send(Client(), body), 400)
    assert set(error["fields"]) == {"email", "password", "organization"}


def test_a_field_of_another_type_is_a_400_that_names_it(clients: dict[str, Client]) -> None:
    wrong = {}
    for name, endpoint in ENDPOINTS.items():
        for field, good in endpoint.body.items():
            for value in NO_FLAGS if good is True else NO_TEXTS:
                data = json.dumps({**endpoint.body, field: value}).encode()
                error = assert_one_shape(endpoint.send(clients[name], data), 400)
                if set(error.get("fields", ())) != {field}:
                    wrong[name, field, repr(value)] = error
    assert wrong == {}


def test_a_text_that_is_too_long_is_a_400_that_names_its_field(clients: dict[str, Client]) -> None:
    for name, endpoint in ENDPOINTS.items():
        for field in (field for field, good in endpoint.body.items() if good is not True):
            for text in ("x" * 100_000, "😀" * 5_000):
                data = json.dumps({**endpoint.body, field: text}).encode()
                error = assert_one_shape(endpoint.send(clients[name], data), 400)
                assert field in error["fields"], (name, field)


def test_an_empty_body_is_a_400_that_names_every_required_field(
    clients: dict[str, Client],
) -> None:
    for name, endpoint in ENDPOINTS.items():
        answer = endpoint.send(clients[name], b"")
        if endpoint.method == "PATCH":
            assert answer.status_code == 200, name
        elif name == "logout":
            assert_one_shape(answer, 401)
        else:
            required = {field for field, good in endpoint.body.items() if good is not True}
            assert set(assert_one_shape(answer, 400)["fields"]) == required, name


def test_another_content_type_is_a_415_that_names_the_right_one(
    clients: dict[str, Client],
) -> None:
    for name, endpoint in ENDPOINTS.items():
        for content_type in ("text/plain", "text/html; charset=utf-8", "garbage", "application/"):
            data = json.dumps(endpoint.body).encode()
            error = assert_one_shape(endpoint.send(clients[name], data, content_type), 415)
            assert error["code"] == "unsupported_media_type", (name, content_type)
            assert JSON in error["detail"], (name, content_type)


def test_no_charset_but_utf_8_is_read() -> None:
    """Python would decode with any codec that a Content-Type names."""
    for path in ("/org/create", "/docs"):
        for charset in ("zlib", "rot13", "undefined", "utf-16", "latin-1", "nonsense", "\x80"):
            answer = Client().generic("POST", path, b"{}", f"{JSON}; charset={charset}")
            assert assert_one_shape(answer, 415)["code"] == "unsupported_media_type", charset
    data = b'{"organization_name": "nobody"}'
    for parameters in ("charset=utf-8", "charset=UTF-8", "charset=us-ascii", ";;;="):
        answer = ENDPOINTS["lookup"].send(Client(), data, f"{JSON}; {parameters}")
        assert answer.status_code == 404, parameters


def test_a_form_with_rubbish_in_it_is_no_500(clients: dict[str, Client]) -> None:
    for name, endpoint in ENDPOINTS.items():
        for content_type in (
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
        ):
            for data in (b"%00=%ff&email=%00", b"&" * 5_000, b"a=b&" * 5_000, b"--x\r\n\0"):
                answer = endpoint.send(clients[name], data, content_type)
                # Every field of a PATCH may be left out, and unknown ones are ignored.
                if not (answer.status_code == 200 and endpoint.method == "PATCH"):
                    assert_one_shape(answer, 400, 401, 413, 415)


def test_another_method_is_a_405_that_names_the_right_ones(clients: dict[str, Client]) -> None:
    for name, endpoint in ENDPOINTS.items():
        own = {endpoint.method, *endpoint.others}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FOO"} - own:
            answer = clients[name].generic(method, endpoint.path, b"{}", content_type=JSON)
            assert assert_one_shape(answer, 405)["code"] == "method_not_allowed", (name, method)
            assert own <= set(answer.headers["Allow"].split(", ")), (name, method)


def test_an_invalid_credential_is_a_401() -> None:
    headers = [{"Authorization": each} for each in ("Bearer", "bearer x", "Bearer a b", ",", "")]
    headers += [{"Authorization": "Bearer .." + "x" * 5_000}, {"Authorization": "Bearer \xff\xfe"}]
    headers += [{"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJvcmciOjF9."}]
    headers += [{"Cookie": f"org_session={each}"} for each in ("abc:def", "a:b:c")]
    headers += [{"Cookie": "sessionid=%00"}]
    for each in headers:
        error = assert_one_shape(Client().get("/api/v1/me/", headers=each), 401)
        assert error["code"] in ("invalid_token", "not_authenticated"), each


def test_a_sign_up_with_an_invalid_field_is_a_400_that_names_it() -> None:
    invalid = {
        "password": ("short", "12345678901", "password123", "a@new.example", " "),
        "email": ("", "a", "a@", "@b.de", "a b@c.de", "a@b.de\r\nBcc: c@d.de"),
        "organization_name": ("", "   ", "---", "x" * 256, "a\x07b", "\u200b", "\u202eabc"),
    }
    for field, values in invalid.items():
        for value in values:
            data = json.dumps({**SIGN_UP, field: value}).encode()
            error = assert_one_shape(ENDPOINTS["sign-up"].send(Client(), data), 400)
            assert set(error["fields"]) == {field}, value
