"""The charset of a Content-Type, which Python would decode with whatever codec it names."""

import pytest

from .server import WebServer


@pytest.mark.parametrize("charset", ["zlib", "rot13", "punycode", "undefined", "utf-16", "latin-1"])
@pytest.mark.parametrize("path", ["/admin/login?organization_name=X", "/org/create", "/docs"])
def test_no_charset_but_utf_8_is_read(live: WebServer, path: str, charset: str) -> None:
    content_type = f"application/json; charset={charset}"
    response = live.call("POST", path, data=b"{}", headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert response.json()["code"] == "unsupported_media_type"


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "us-ascii"])
def test_utf_8_is_read(live: WebServer, charset: str) -> None:
    content_type = f"application/json; charset={charset}"
    response = live.call(
        "POST",
        "/org/get",
        data=b'{"organization_name": "nobody"}',
        headers={"Content-Type": content_type},
    )
    assert response.status_code == 404
