"""Content-Security-Policy: every page works under it, and the browser blocks nothing."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ORGANIZATION, Visit

pytestmark = pytest.mark.browser


def go(visit: Visit, path: str, *, status: int = 200) -> None:
    """Open the page; it has a policy that lets no script run that is not the page's own."""
    response = visit.page.goto(visit.address + path)
    assert response is not None and response.status == status, path
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    scripts = re.search(r"script-src ([^;]*)", policy)
    assert scripts is not None, f"{path} was sent no page's policy"
    assert "unsafe" not in scripts[1] and "http" not in scripts[1]
    visit.page.wait_for_load_state("networkidle")


def test_a_strangers_pages_break_no_rule_of_their_policy(visit: Visit) -> None:
    for path in ("/docs", "/redoc", "/admin/login/", "/api/login/", "/api/password-reset/"):
        go(visit, path)
    visit.assert_quiet()
    go(visit, "/api/v1/users/", status=401)
    # The status itself is what chromium complains of.
    assert [each for each in visit.complaints if "401" not in each] == []


def test_the_pages_of_the_browsable_api_break_no_rule_of_their_policy(admin_visit: Visit) -> None:
    for path in (
        *("/api/v1/", "/api/v1/me/", "/api/v1/users/", "/api/v1/users/1/"),
        *("/api/v1/organization/", "/api/v1/users/?search=a&is_admin=true"),
    ):
        go(admin_visit, path)
    admin_visit.assert_quiet()


def test_the_raw_form_and_the_menus_of_the_browsable_api_work(admin_visit: Visit) -> None:
    page = admin_visit.page
    go(admin_visit, "/api/v1/users/")
    page.get_by_role("link", name="Raw data").click()
    expect(page.locator("#post-generic-content-form textarea")).to_be_visible()
    page.locator("[data-toggle=dropdown]").first.click()
    expect(page.locator(".dropdown-menu").first).to_be_visible()
    admin_visit.assert_quiet()


def test_the_pages_of_django_admin_break_no_rule_of_their_policy(staff_visit: Visit) -> None:
    for path in (
        *("/admin/", "/admin/organizations/", "/admin/password_change/"),
        *("/admin/organizations/organization/", "/admin/organizations/organization/add/"),
        *("/admin/organizations/staff/", "/admin/organizations/staff/add/"),
        *("/admin/organizations/staff/1/change/", "/admin/organizations/staff/1/history/"),
        *("/admin/organizations/staff/1/password/", "/admin/organizations/staff/1/delete/"),
        "/admin/organizations/server/",
    ):
        go(staff_visit, path)
    staff_visit.assert_quiet()


def test_the_date_widgets_of_django_admin_work(staff_visit: Visit) -> None:
    page = staff_visit.page
    go(staff_visit, "/admin/organizations/staff/1/change/")
    page.locator(".field-date_joined .datetimeshortcuts a").first.click()
    expect(page.locator("#id_date_joined_0")).to_have_value(re.compile(r"\d{4}-\d\d-\d\d"))
    page.locator(".field-date_joined .date-icon").first.click()
    expect(page.locator(".calendarbox:visible")).to_be_visible()
    expect(page.locator(".selector-available:visible").first).to_be_visible()
    staff_visit.assert_quiet()


def test_the_list_of_django_admin_selects_and_filters(staff_visit: Visit) -> None:
    page = staff_visit.page
    go(staff_visit, "/admin/organizations/organization/")
    page.locator("#action-toggle").check()
    row = page.locator("#result_list tbody tr", has_text=ORGANIZATION)
    expect(row.locator("input.action-select")).to_be_checked()
    page.locator("#changelist-filter").get_by_role("link", name="active").first.click()
    page.wait_for_url("**status**")
    expect(page.locator("#result_list")).to_contain_text(ORGANIZATION)
    page.locator(".theme-toggle:visible").first.click()
    expect(page.locator("html")).to_have_attribute("data-theme", re.compile("light|dark|auto"))
    staff_visit.assert_quiet()


def test_a_script_written_into_a_page_by_somebody_else_does_not_run(visit: Visit) -> None:
    go(visit, "/api/login/")
    visit.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s); document.body.setAttribute('onclick', 'window.ran = 1');"
        "document.body.click(); }"
    )
    assert visit.page.evaluate("() => window.ran") is None
    assert [each for each in visit.complaints if "Content Security Policy" in each]
