"""The API's documentation pages in a browser."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser


def test_swagger_ui_shows_the_operations_and_asks_no_other_host(visit: Visit) -> None:
    visit.open("/docs")
    expect(visit.page.locator(".opblock").first).to_be_visible()
    visit.save("docs")

    paths = visit.page.locator(".opblock-summary-path").all_text_contents()
    # The page puts invisible breaks between the parts of a path.
    shown = {path.strip().replace("\u200b", "") for path in paths}
    assert {"/org/create", "/org/get", "/admin/login", "/api/v1/users/"} <= shown
    visit.assert_quiet()


def test_an_operation_can_be_tried_in_swagger_ui(visit: Visit) -> None:
    visit.open("/docs")
    sign_up = visit.page.locator(".opblock-post", has_text="/org/create")
    sign_up.locator(".opblock-summary-control").click()
    expect(sign_up.locator(".opblock-section-request-body")).to_contain_text("testpass123")
    visit.save("docs-sign-up", full_page=False)

    operation = visit.page.locator(".opblock", has_text="/health")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()

    answer = operation.locator(".live-responses-table .response")
    expect(answer).to_contain_text("200")
    expect(answer).to_contain_text("healthy")
    visit.save("docs-tried", full_page=False)
    visit.assert_quiet()


def test_redoc_shows_the_operations_and_asks_no_other_host(visit: Visit) -> None:
    visit.open("/redoc")

    heading = visit.page.get_by_role("heading", name="Sign up: create an organization")
    expect(heading).to_be_visible()
    visit.save("redoc", full_page=False)
    visit.assert_quiet()
