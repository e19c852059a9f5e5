"""Hostile requests over the wire: paths, queries, hosts, framing, and bytes that are not HTTP."""

from django.test import Client

from orgmgmt.edge.headers import ALWAYS, NOTHING
from tests.conftest import Company

from .server import WebServer, assert_one_shape

HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
LOOK_UP = b"POST /org/get HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
NUMBER = "9" * 1_000
# Those of users are asked for by alpha's admin.
PATHS = {
    "/nonsense": 404,
    "/org": 404,
    "/org/create/x": 404,
    "/org/create//": 404,
    "//org/get": 404,
    "/%ff": 404,
    "/%c0%80": 404,
    "/%ed%a0%80": 404,
    "/%00": 400,
    "/org/create%00": 400,
    "/static/%00": 400,
    "/static/nothing.css": 404,
    "/static/..%2f..%2fmanage.py": 404,
    "/%2e%2e/%2e%2e/etc/passwd": 404,
    "/api/v1/nonsense/": 404,
    "/api/v1/users/%00/": 400,
    "/api/v1/users/%ff/": 404,
    "/api/v1/users/%D9%A1/": 404,
    f"/api/v1/users/{NUMBER}/": 404,
    "/api/v1/users/?page=%00": 404,
    "/api/v1/users/?page=%ff": 404,
    f"/api/v1/users/?page={NUMBER}": 404,
    "/api/v1/users/?search=a%00b": 400,
    "/api/v1/users/?is_admin=%00": 400,
    "/api/v1/users/?format=nonsense": 404,
    f"/api/v1/users/?page_size={NUMBER}": 200,
    "/api/v1/users/?search=%ff": 200,
    "/api/v1/users/?ordering=%00": 200,
    "/api/v1/users/?%00": 200,
}
# For the names of organizations in a query string.
NAMES = {
    **dict.fromkeys(("%00", "a%00b", "", "%20", "x" * 256, "%0a"), 400),
    **dict.fromkeys(("x", "%ff", "%ed%a0%80", "x?y%26z", "%F0%9F%98%80" * 255), 404),
}
# With the status, and the code where it is ours to choose.
MALFORMED = {
    b"<script>alert(1)</script>\r\n\r\n": (400, "bad_request"),
    b"GET /health HTTP/9.9\r\n\r\n": (400, "bad_request"),
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX Y: <script>\r\n\r\n": (400, "bad_request"),
    b"GET /" + b"a" * 9_000 + HEAD + b"\r\n": (414, "address_too_long"),
    b"GET /" + HEAD + b"X-A: b\r\n" * 200 + b"\r\n": (431, "headers_too_large"),
    b"GET /" + HEAD + b"X: " + b"a" * 9_000 + b"\r\n\r\n": (431, "headers_too_large"),
    b"GET /" + HEAD + b"Transfer-Encoding: x\r\n\r\n": (400, "bad_request"),
    LOOK_UP + b"Content-Length: -1\r\n\r\n{}": (400, "bad_request"),
    LOOK_UP + b"Content-Length: \xb2\r\n\r\n{}": (400, "bad_request"),
    LOOK_UP + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}": (400, "bad_request"),
}
REFUSED = [
    b"GET /\xff\xfe" + HEAD + b"\r\n",
    b"GET /" + HEAD + b"Host: evil.example\r\n\r\n",
    b"GET /api/v1/me/" + HEAD + b"Authorization: Bearer \x00\r\n\r\n",
]


def test_a_path_or_query_that_leads_nowhere_is_answered_in_the_one_shape(
    server: WebServer, alpha: Company
) -> None:
    headers = {"Authorization": f"Bearer {alpha.token(Client())}"}
    answers = {path: server.get(path, headers=headers) for path in PATHS}
    assert {path: answer.status_code for path, answer in answers.items()} == PATHS
    for path, answer in answers.items():
        assert "password" not in answer.text, path
        if answer.status_code != 200:
            assert_one_shape(answer, PATHS[path])


def test_a_login_at_an_odd_organization_is_a_400_or_404(server: WebServer) -> None:
    body = {"email": "a@test.com", "password": "b"}
    for name, status in NAMES.items():
        answer = server.post(f"/admin/login?organization_name={name}", body)
        error = assert_one_shape(answer, status)
        assert status == 404 or set(error["fields"]) == {"organization_name"}, name


def test_an_odd_query_at_a_page_for_everybody_is_no_500() -> None:
    for path in ("/openapi.json", "/docs", "/redoc", "/", "/health", "/api/v1/"):
        for query in ("version=%00", "version=%0d%0aX:y", "lang=%00", "format=%00"):
            answer = Client().get(f"{path}?{query}")
            assert answer.status_code in (200, 400, 404), (path, query)


def test_a_host_that_is_not_served_is_a_400(server: WebServer) -> None:
    for host in (b"evil.example", b"", b"a b", b"\xff", b"localhost/x", b"[::1"):
        answer = server.raw(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert assert_one_shape(answer, 400)["code"] == "unknown_host", host
    # A load balancer asks by address.
    assert server.raw(b"GET /health HTTP/1.1\r\nHost: 10.0.0.7:8000\r\n\r\n").status == 200


def test_gunicorns_refusals_have_our_error_format_and_headers(
    server: WebServer,
) -> None:
    for request, (status, code) in MALFORMED.items():
        answer = server.raw(request)
        assert assert_one_shape(answer, status)["code"] == code, request[:200]
        assert b"script" not in answer.content
        for name, value in {**ALWAYS, "Content-Security-Policy": NOTHING}.items():
            assert answer.headers[name] == value, request[:200]
    for request in REFUSED:
        assert 400 <= server.raw(request).status < 500, request


def test_a_chunked_body_is_refused(server: WebServer) -> None:
    for chunks in (b"zz\r\n{}\r\n0\r\n\r\n", b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n"):
        answer = server.raw(LOOK_UP + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert_one_shape(answer, 411)


def test_a_head_request_is_answered_without_a_warning_in_the_log(server: WebServer) -> None:
    assert server.call("HEAD", "/health").status_code == 200
    assert "WSGI app sent body bytes" not in server.text()


def test_a_header_that_names_a_path_prefix_is_ignored(server: WebServer) -> None:
    """By 127.0.0.1, as a proxy on the same machine sends it."""
    for header in ("SCRIPT_NAME", "PATH_INFO", "Script-Name", "Path-Info", "X-Script-Name"):
        for path in ("/below/admin/login/", "/below/api/v1/me/", "/below/docs"):
            head = [f"GET {path} HTTP/1.1", "Host: localhost", f"{header}: /below"]
            answer = server.raw("\r\n".join([*head, "Connection: close", "", ""]).encode())
            assert assert_one_shape(answer, 404)["code"] == "not_found", (header, path)
            assert b"/below" not in answer.content, (header, path)
