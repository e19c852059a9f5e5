"""Security headers of every endpoint's answers."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import URLPattern, URLResolver

from organizations.isolation import Side
from organizations.isolation.calls import endpoints, send
from organizations.models import Staff
from orgmgmt.edge.headers import ALWAYS, NOTHING, SecurityHeadersMiddleware, policy_of
from tests.conftest import Company

pytest_plugins = ["tests.isolation.fixtures"]


def directives(response: Any) -> dict[str, list[str]]:
    parts = (part.split() for part in response["Content-Security-Policy"].split(";"))
    return {name: sources for name, *sources in parts}


def assert_headers(response: Any) -> None:
    """Assert all headers, and the policy for this kind of answer."""
    for name, value in ALWAYS.items():
        if name != "Referrer-Policy":
            assert response.headers.get(name) == value
    assert response.headers.get("Referrer-Policy") in ("same-origin", "strict-origin")
    policy = directives(response)
    assert policy["default-src"] == ["'none'"]
    assert policy["frame-ancestors"] == ["'none'"]
    if not response.get("Content-Type", "").startswith("text/html"):
        assert response["Content-Security-Policy"] == NOTHING
        return
    assert policy["base-uri"] == ["'none'"]
    allowed = {source for sources in policy.values() for source in sources}
    assert not [source for source in allowed if "//" in source or "*" in source]
    for directive in ("script-src", "style-src"):
        assert policy[directive][0] == "'self'"
        others = policy[directive][1:]
        assert not [source for source in others if not source.startswith("'nonce-")]


def test_every_endpoint_sends_all_headers(ours: Side, theirs: Side) -> None:
    """To its own people, who see pages, and to strangers."""
    mine, stranger = ours.by_cookie(), Client()
    for key in sorted(endpoints()):
        if key.startswith("GET "):
            assert_headers(send(mine, key, ours, theirs, headers={"Accept": "text/html"}))
    for key in sorted(endpoints()):
        assert_headers(send(stranger, key, ours, theirs))


def admin_paths(
    patterns: list[URLPattern | URLResolver], prefix: str, pk: str
) -> Iterator[tuple[str, str]]:
    """Name and path of each page of Django admin, with `pk` if it needs one."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from admin_paths(pattern.url_patterns, route, pk)
            continue
        path = re.sub(r"<(path:|int:)?(object_id|content_type_id|id)>", pk, route)
        path = path.replace("^(?P<app_label>auth|organizations)/$", "organizations/")
        if "(?P" not in path:
            yield str(pattern.name), path


def test_every_page_of_django_admin_has_the_headers(staff_client: Client, alpha: Company) -> None:
    seen = 0
    pages = 0
    pk = str(alpha.organization.pk)
    staff_pk = str(Staff.objects.values_list("pk", flat=True)[0])
    for name, path in admin_paths(admin.site.urls[0], "/admin/", pk):
        if name == "logout":
            continue
        path = path.replace(pk, staff_pk) if "/staff/" in path else path
        response = staff_client.get(path)
        assert_headers(response)
        seen += 1
        pages += response.status_code == 200
        assert response.status_code < 500, path
    assert seen > 15
    assert pages > 8, "the walk meets no pages"


def test_errors_and_files_have_the_headers_too(client: Client) -> None:
    extras: tuple[tuple[str, dict[str, Any], int], ...] = (
        ("/nothing/here", {}, 404),
        ("/admin/nothing/", {}, 302),
        ("/", {"HTTP_HOST": "evil.example"}, 400),
        ("/health", {"HTTP_HOST": "evil.example"}, 200),
        ("/org/get", {"CONTENT_LENGTH": "99999999"}, 413),
        ("/static/rest_framework/css/default.css", {}, 200),
        ("/static/drf_spectacular_sidecar/swagger-ui-dist/oauth2-redirect.html", {}, 200),
        ("/static/nothing.css", {}, 404),
    )
    for path, extra, status in extras:
        response = client.get(path, **extra)
        response.close()
        assert response.status_code == status, path
        assert_headers(response)


def test_a_bug_is_answered_with_the_headers(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("orgmgmt.edge.health.RootView.get", broken)
    client.raise_request_exception = False
    response = client.get("/")
    assert response.status_code == 500
    assert_headers(response)


@override_settings(SECURE_SSL_REDIRECT=True)
def test_the_way_to_https_has_the_headers(client: Client) -> None:
    response = client.get("/docs")
    assert response.status_code == 301
    assert_headers(response)


@override_settings(SECURE_HSTS_SECONDS=60, SECURE_HSTS_INCLUDE_SUBDOMAINS=True)
def test_every_answer_over_https_keeps_the_browser_on_it(client: Client) -> None:
    extras: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/health", {}),
        ("/docs", {}),
        ("/", {"HTTP_HOST": "evil.example"}),
        ("/org/get", {"CONTENT_LENGTH": "99999999"}),
        ("/static/rest_framework/css/default.css", {}),
    )
    for path, extra in extras:
        for secure in (True, False):
            response = client.get(path, secure=secure, **extra)
            response.close()
            found = response.headers.get("Strict-Transport-Security")
            assert found == ("max-age=60; includeSubDomains" if secure else None), path


def test_a_page_whose_address_is_a_secret_keeps_its_own_referrer_policy(client: Client) -> None:
    assert client.get("/docs")["Referrer-Policy"] == "same-origin"
    assert client.get("/api/password-reset/")["Referrer-Policy"] == "strict-origin"


def page(nonce: bool = False) -> HttpResponse:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(policy_of(request).nonce if nonce else "a page")

    response = SecurityHeadersMiddleware(view)(RequestFactory().get("/"))
    assert isinstance(response, HttpResponse)
    return response


def test_a_page_that_asks_for_a_nonce_has_one_of_its_own() -> None:
    assert "nonce" not in page()["Content-Security-Policy"]
    first, second = page(nonce=True), page(nonce=True)
    assert first.content != second.content
    assert len(first.content) >= 20
    assert f"'nonce-{first.content.decode()}'" in directives(first)["script-src"]


def test_the_scripts_written_into_a_page_carry_its_nonce(client: Client) -> None:
    for path in ("/docs", "/redoc"):
        response = client.get(path)
        text = response.content.decode()
        nonce = re.search(r"'nonce-([\w-]+)'", response["Content-Security-Policy"])
        assert nonce is not None
        inline = re.findall(r"<(?:script|style)(?![^>]*\bsrc=)([^>]*)>", text)
        assert inline and set(inline) == {f' nonce="{nonce[1]}"'}


def test_only_the_browsable_api_may_lay_out_by_style_attributes(
    client: Client, staff_client: Client
) -> None:
    assert "style-src-attr" in directives(client.get("/api/v1/", headers={"accept": "text/html"}))
    for page in (client.get("/docs"), client.get("/redoc"), staff_client.get("/admin/")):
        assert page.status_code == 200
        assert "style-src-attr" not in directives(page)
