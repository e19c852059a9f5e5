"""Hostile requests: each is refused with a 4xx in the one shape, and none is a 500."""

import json
from typing import Any

import pytest

from orgmgmt.edge.headers import ALWAYS, NOTHING
from tests.conftest import PASSWORD, Company

from .server import WebServer, assert_one_shape

SIGN_UP = {"email": "a@new.example", "password": PASSWORD, "organization_name": "Hostile"}
LOGIN = {"email": "admin@alpha.example", "password": PASSWORD}
HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
# method, path, a body that would be accepted, whether it is called as a member
ENDPOINTS: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "create": ("POST", "/org/create", SIGN_UP, False),
    "get": ("POST", "/org/get", {"organization_name": "Acme Corp"}, False),
    "login": ("POST", "/admin/login?organization_name=Acme%20Corp", LOGIN, False),
    "token": ("POST", "/api/v1/auth/token/", {**LOGIN, "organization": "Acme Corp"}, False),
    "refresh": ("POST", "/api/v1/auth/token/refresh/", {"refresh": "a.b.c"}, False),
    "logout": ("POST", "/api/v1/auth/logout/", {"refresh": "a.b.c"}, False),
    "me": ("PATCH", "/api/v1/me/", {"email": "admin@alpha.example"}, True),
    "password": (
        "POST",
        "/api/v1/me/password/",
        {"current_password": "wrong", "new_password": PASSWORD},
        True,
    ),
    "users": ("POST", "/api/v1/users/", {"email": "b@new.example", "password": PASSWORD}, True),
    "user": ("PATCH", "/api/v1/users/1/", {"email": "admin@alpha.example"}, True),
}
every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS)
WRONG_TYPES = {
    "int": 7,
    "float": 1.5,
    "true": True,
    "null": None,
    "list": ["x"],
    "object": {"$ne": "x"},
}
BODIES = {
    "bad JSON": b"{bad",
    "single quotes": b"{'email': 'a'}",
    "truncated": b'{"email": "a',
    "two values": b"{} {}",
    "trailing comma": b'{"email": "a",}',
    "a list": b"[]",
    "a text": b'"x"',
    "a number": b"7",
    "null": b"null",
    "NUL, escaped": b'{"email": "a\\u0000b"}',
    "NUL in a key": b'{"a\\u0000b": "x"}',
    "NUL, raw": b'{"email": "a\x00b"}',
    "a lone surrogate": b'{"email": "a\\ud800b"}',
    "a lone surrogate in a key": b'{"a\\udfff": "x"}',
    "a surrogate in a list": b'{"email": ["\\udc00"]}',
    "invalid UTF-8": b'{"email": "a\xff\xfeb"}',
    "an overlong NUL": b'{"email": "a\xc0\x80b"}',
    "UTF-16": '{"email": "a"}'.encode("utf-16"),
    "lists, 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "lists, never closed": b"[" * 100_000,
    "objects, 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a field, 1,000 deep": b'{"email":' + b"[" * 1_000 + b"]" * 1_000 + b"}",
    "an integer of 50,000 digits": b'{"email": ' + b"9" * 50_000 + b"}",
    "a huge float": b'{"email": 1e999999}',
    "NaN": b'{"email": NaN}',
    "-Infinity": b'{"email": -Infinity}',
}


def send(
    server: WebServer, endpoint: str, data: bytes, headers: dict[str, str], **options: Any
) -> Any:
    method, path, _, _ = ENDPOINTS[endpoint]
    return server.call(method, path, data=data, headers=headers, **options)


@pytest.fixture
def headers(request: pytest.FixtureRequest, live: WebServer, alpha: Company) -> dict[str, str]:
    """Of a request whose body is JSON; with alpha's admin's token where the endpoint wants one."""
    sent = {"Content-Type": "application/json"}
    if ENDPOINTS[request.getfixturevalue("endpoint")][3]:
        sent |= bearer(live, alpha)
    return sent


def bearer(server: WebServer, company: Company) -> dict[str, str]:
    token = server.log_in(company.name, email=company.email).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


@every_endpoint
def test_a_body_that_is_no_good_is_400(
    live: WebServer, headers: dict[str, str], endpoint: str
) -> None:
    for what, data in BODIES.items():
        response = send(live, endpoint, data, headers)
        # A logout whose body is JSON and names no token is refused for that.
        refused = (400, 401) if endpoint == "logout" else (400,)
        assert response.status_code in refused, f"{what}: {response.text[:200]}"
        assert_one_shape(response, *refused)


@every_endpoint
def test_a_field_of_the_wrong_type_is_named(
    live: WebServer, headers: dict[str, str], endpoint: str
) -> None:
    good = ENDPOINTS[endpoint][2]
    for field in good:
        for kind, value in WRONG_TYPES.items():
            response = send(live, endpoint, json.dumps({**good, field: value}).encode(), headers)
            assert response.status_code == 400, f"{field}, {kind}: {response.text[:200]}"
            assert set(assert_one_shape(response, 400)["fields"]) == {field}, kind


@every_endpoint
def test_a_text_that_is_too_long_is_refused(
    live: WebServer, headers: dict[str, str], endpoint: str
) -> None:
    good = ENDPOINTS[endpoint][2]
    for field in good:
        for text in ("x" * 100_000, "😀" * 5_000, "a" * 100_000 + "@test.com"):
            response = send(live, endpoint, json.dumps({**good, field: text}).encode(), headers)
            assert field in assert_one_shape(response, 400)["fields"], field


@every_endpoint
def test_a_body_of_10_megabytes_is_413(
    live: WebServer, headers: dict[str, str], endpoint: str
) -> None:
    response = send(live, endpoint, b'{"email": "' + b"a" * 10_000_000 + b'"}', headers)
    assert assert_one_shape(response, 413)["code"] == "too_large"


@every_endpoint
def test_another_content_type_is_415(
    live: WebServer, headers: dict[str, str], endpoint: str
) -> None:
    del headers["Content-Type"]
    types = ("text/plain", "text/html; charset=utf-8", "garbage", "", None, "application/")
    for content_type in types:
        sent = headers if content_type is None else {**headers, "Content-Type": content_type}
        response = send(live, endpoint, json.dumps(ENDPOINTS[endpoint][2]).encode(), sent)
        code = assert_one_shape(response, 415)["code"]
        assert code == "unsupported_media_type", content_type


@every_endpoint
def test_a_content_type_with_odd_parameters_is_no_500(
    live: WebServer, headers: dict[str, str], endpoint: str
) -> None:
    for parameters in ("charset=nonsense", "charset=utf-16", "charset=\x80", "charset", ";;;="):
        sent = {**headers, "Content-Type": f"application/json; {parameters}".encode("latin-1")}
        response = send(live, endpoint, b'{"email": 7}', sent)  # type: ignore[arg-type]
        assert_one_shape(response, 400, 401, 415)


@every_endpoint
def test_a_form_with_rubbish_in_it_is_no_500(
    live: WebServer, headers: dict[str, str], endpoint: str
) -> None:
    for content_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        sent = {**headers, "Content-Type": content_type}
        for data in (b"%00=%ff&email=%00", b"&" * 5_000, b"a=b&" * 5_000, b"--x\r\n\0", b"--x--"):
            response = send(live, endpoint, data, sent)
            # Every field of a change may be left out, and unknown ones are passed over.
            if not (response.status_code == 200 and ENDPOINTS[endpoint][0] == "PATCH"):
                assert_one_shape(response, 400, 401, 413, 415)


@every_endpoint
def test_two_equal_keys_are_refused(
    live: WebServer, headers: dict[str, str], endpoint: str
) -> None:
    field, value = next(iter(ENDPOINTS[endpoint][2].items()))
    data = f'{{"{field}": {json.dumps(value)}, "{field}": 7}}'.encode()
    error = assert_one_shape(send(live, endpoint, data, headers), 400)
    assert error["code"] == "parse_error"


@every_endpoint
def test_an_empty_body_is_no_500(live: WebServer, headers: dict[str, str], endpoint: str) -> None:
    response = send(live, endpoint, b"", headers)
    # The refresh token of a logout and each field of a change may be left out.
    if ENDPOINTS[endpoint][0] == "PATCH":
        assert response.status_code == 200
    else:
        assert_one_shape(response, 401 if endpoint == "logout" else 400)


@every_endpoint
def test_another_method_is_405(live: WebServer, headers: dict[str, str], endpoint: str) -> None:
    own = ("PUT", "DELETE") if endpoint == "user" else ()
    for method in {"PUT", "DELETE", "TRACE", "FOO", "PROPFIND"}.difference(own):
        response = live.call(method, ENDPOINTS[endpoint][1], data=b"{}", headers=headers)
        assert assert_one_shape(response, 405)["code"] == "method_not_allowed", method
        assert method not in response.headers["Allow"]


@pytest.mark.parametrize("path", ["/api/v1/me/", "/api/v1/users/", "/api/v1/organization/"])
def test_a_bad_authorization_header_is_401(live: WebServer, path: str) -> None:
    for authorization in (
        b"Bearer",
        b"bearer x",
        b"Bearer a b",
        b"Bearer a.b.c",
        b"Bearer .." + b"x" * 5_000,
        b"Bearer \xff\xfe",
        b"Bearer eyJhbGciOiJub25lIn0.eyJvcmciOjF9.",
        b"Basic YTpi",
        b"Token x",
        b",",
        b"",
    ):
        response = live.get(path, headers={"Authorization": authorization})
        code = assert_one_shape(response, 401)["code"]
        assert code in ("invalid_token", "not_authenticated"), authorization


@pytest.mark.parametrize("cookie", ["org_session=abc:def", "org_session=a:b:c", "sessionid=%00"])
def test_a_forged_cookie_is_401(live: WebServer, cookie: str) -> None:
    assert_one_shape(live.get("/api/v1/me/", headers={"Cookie": cookie}), 401)


def test_a_weak_password_is_refused_by_name(live: WebServer) -> None:
    for password in ("short", "12345678901", "password123", "a@new.example", " "):
        error = assert_one_shape(live.post("/org/create", {**SIGN_UP, "password": password}), 400)
        assert set(error["fields"]) == {"password"}, password


def test_what_is_no_address_is_refused_by_name(live: WebServer) -> None:
    for email in ("", "a", "a@", "@b.de", "a b@c.de", "a@b.de\r\nBcc: c@d.de"):
        error = assert_one_shape(live.post("/org/create", {**SIGN_UP, "email": email}), 400)
        assert set(error["fields"]) == {"email"}, email


def test_what_is_no_name_is_refused_by_name(live: WebServer) -> None:
    for name in ("", "   ", "---", "x" * 256, "a\x07b", "\u200b", "\u202eabc"):
        error = assert_one_shape(live.sign_up(name), 400)
        assert set(error["fields"]) == {"organization_name"}, name


def test_a_name_of_255_characters_is_good(live: WebServer) -> None:
    assert live.sign_up("x" * 255).status_code == 201


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"<script>alert(1)</script>\r\n\r\n", 400, "bad_request"),
        (b"GET /health HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX Y: <script>\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"a" * 9_000 + HEAD + b"\r\n", 414, "address_too_long"),
        (b"GET /" + HEAD + b"X-A: b\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
        (b"GET /" + HEAD + b"Transfer-Encoding: x\r\n\r\n", 400, "bad_request"),
    ],
    ids=["no-request", "version", "header-name", "long-line", "many-headers", "coding"],
)
def test_what_gunicorn_refuses_is_answered_in_the_one_shape_with_all_headers(
    request_: bytes, status: int, code: str, live: WebServer
) -> None:
    answer = live.raw(request_)
    assert assert_one_shape(answer, status)["code"] == code
    assert b"script" not in answer.content
    for name, value in {**ALWAYS, "Content-Security-Policy": NOTHING}.items():
        assert answer.headers[name] == value
