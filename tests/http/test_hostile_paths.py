"""Hostile paths, queries, hosts and framings: what HTTP can carry beside a body."""

import json

import pytest

from tests.conftest import Company

from .server import WebServer, assert_one_shape

GET = b"POST /org/get HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
NUMBER = "9" * 1_000


@pytest.fixture
def bearer(live: WebServer, alpha: Company) -> dict[str, str]:
    token = live.log_in(alpha.name, email=alpha.email).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nonsense", 404),
        ("/org", 404),
        ("/org/create/x", 404),
        ("/org/create//", 404),
        ("//org/get", 404),
        ("/%ff", 404),
        ("/%c0%80", 404),
        ("/%ed%a0%80", 404),
        ("/%00", 400),
        ("/org/create%00", 400),
        ("/static/%00", 400),
        ("/static/nothing.css", 404),
        ("/static/..%2f..%2fmanage.py", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/api/v1/nonsense/", 404),
        ("/api/v1/users/0/", 404),
        ("/api/v1/users/-1/", 404),
        ("/api/v1/users/abc/", 404),
        ("/api/v1/users/%00/", 400),
        ("/api/v1/users/%ff/", 404),
        ("/api/v1/users/%D9%A1/", 404),
        ("/api/v1/users/99999999999999999999/", 404),
        (f"/api/v1/users/{NUMBER}/", 404),
        ("/api/v1/users/?page=0", 404),
        ("/api/v1/users/?page=-1", 404),
        ("/api/v1/users/?page=abc", 404),
        ("/api/v1/users/?page=%00", 404),
        ("/api/v1/users/?page=%ff", 404),
        (f"/api/v1/users/?page={NUMBER}", 404),
        ("/api/v1/users/?page=99999999999999999999", 404),
        ("/api/v1/users/?search=%00", 400),
        ("/api/v1/users/?search=a%00b", 400),
        ("/api/v1/users/?is_admin=%00", 400),
        ("/api/v1/users/?is_admin=maybe", 400),
        ("/api/v1/users/?format=nonsense", 404),
        ("/admin/login?organization_name=x", 404),
    ],
)
def test_a_path_or_query_that_leads_nowhere_is_answered_in_the_one_shape(
    live: WebServer, bearer: dict[str, str], path: str, status: int
) -> None:
    if path.startswith("/admin/login"):
        response = live.post(path, {"email": "a", "password": "b"})
    else:
        response = live.get(path, headers=bearer)
    assert_one_shape(response, status)


@pytest.mark.parametrize(
    "query",
    [
        "search=%ff",
        "ordering=%00",
        "ordering=password",
        "page_size=x",
        f"page_size={NUMBER}",
        "%00",
    ],
)
def test_a_query_that_means_nothing_changes_nothing(
    live: WebServer, bearer: dict[str, str], query: str
) -> None:
    response = live.get(f"/api/v1/users/?{query}", headers=bearer)
    assert response.status_code in (200, 400), response.text
    assert "password" not in response.text
    if response.status_code == 400:
        assert_one_shape(response, 400)


@pytest.mark.parametrize("query", ["%00", "a%00b", "", "%20", "x" * 256, "%0a"])
def test_a_login_at_a_name_that_can_be_none_is_400(live: WebServer, query: str) -> None:
    body = {"email": "a@test.com", "password": "b"}
    error = assert_one_shape(live.post(f"/admin/login?organization_name={query}", body), 400)
    assert set(error["fields"]) == {"organization_name"}


@pytest.mark.parametrize("query", ["%ff", "%ed%a0%80", "x?y%26z", "%F0%9F%98%80" * 255])
def test_a_login_at_an_odd_name_is_404(live: WebServer, query: str) -> None:
    body = {"email": "a@test.com", "password": "b"}
    assert_one_shape(live.post(f"/admin/login?organization_name={query}", body), 404)


@pytest.mark.parametrize("query", ["version=%00", "version=%0d%0aX:y", "lang=%00", "format=%00"])
@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc", "/", "/health", "/api/v1/"])
def test_an_odd_query_at_a_page_for_everybody_is_no_500(
    server: WebServer, path: str, query: str
) -> None:
    response = server.get(f"{path}?{query}")
    assert response.status_code in (200, 400, 404), f"{response.status_code}"


@pytest.mark.parametrize("host", [b"evil.example", b"", b"a b", b"\xff", b"localhost/x", b"[::1"])
def test_a_host_that_is_not_served_is_400(live: WebServer, host: bytes) -> None:
    answer = live.raw(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert assert_one_shape(answer, 400)["code"] == "unknown_host"


def test_health_is_answered_whatever_the_host(live: WebServer) -> None:
    assert live.raw(b"GET /health HTTP/1.1\r\nHost: 10.0.0.7:8000\r\n\r\n").status == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
        b"GET /api/v1/me/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \x00\r\n\r\n",
        GET + b"Content-Length: -1\r\n\r\n{}",
        GET + b"Content-Length: \xb2\r\n\r\n{}",
        GET + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    ],
)
def test_what_is_no_http_is_refused_before_the_application(
    live: WebServer, request_: bytes
) -> None:
    answer = live.raw(request_)
    assert 400 <= answer.status < 500, answer


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n"]
)
def test_a_chunked_body_that_is_no_good_is_refused(live: WebServer, chunks: bytes) -> None:
    answer = live.raw(GET + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert_one_shape(answer, 400, 411)


def test_a_good_chunked_body_is_read_or_told_to_come_with_a_length(
    live: WebServer, alpha: Company
) -> None:
    body = json.dumps({"organization_name": alpha.name}).encode()
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    answer = live.raw(GET + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
    if answer.status != 200:
        # It names every field: to say that one is missing would mislead.
        assert_one_shape(answer, 411)


@pytest.mark.parametrize(
    "data", [b"{bad", b"null", b'{"email": ' + b"9" * 50_000 + b"}", b'{"email": "a\xff"}']
)
def test_what_is_wrong_with_a_body_is_said_in_a_sentence(live: WebServer, data: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = live.call("POST", "/org/get", data=data, headers=headers)
    detail = assert_one_shape(response, 400)["detail"]
    assert detail.endswith("."), detail
    assert "sys." not in detail and "codec" not in detail, f"it speaks of the inside: {detail}"


def test_a_head_request_is_answered_without_a_warning_in_the_log(live: WebServer) -> None:
    assert live.call("HEAD", "/health").status_code == 200
    assert "WSGI app sent body bytes" not in live.text()
