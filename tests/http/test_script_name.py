"""A header of the client's does not move the application to another path."""

import pytest

from .server import WebServer, assert_one_shape

HEADERS = ("SCRIPT_NAME", "PATH_INFO", "Script-Name", "Path-Info", "X-Script-Name")


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("path", ["/below/admin/login/", "/below/api/v1/me/", "/below/docs"])
def test_a_header_that_names_a_prefix_is_not_believed(
    server: WebServer, header: str, path: str
) -> None:
    """By 127.0.0.1, as a proxy on the same machine sends it."""
    head = [f"GET {path} HTTP/1.1", "Host: localhost", f"{header}: /below", "Connection: close"]
    answer = server.raw("\r\n".join([*head, "", ""]).encode())
    assert assert_one_shape(answer, 404)["code"] == "not_found"
    assert b"/below" not in answer.content
