"""The browsable API, used by an organization's admin and by staff."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ADMIN, ORGANIZATION, PASSWORD, Visit

pytestmark = pytest.mark.browser


def test_a_wrong_password_is_answered_on_the_login_page(visit: Visit) -> None:
    page = visit.page
    visit.open("/api/login/")
    visit.save("api-login")
    page.get_by_label("Organization").fill(ORGANIZATION)
    page.get_by_label("E-mail").fill(ADMIN)
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Log in").click()

    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Organization")).to_have_value(ORGANIZATION)
    expect(page.get_by_label("Password")).to_have_value("")
    visit.save("api-login-refused")
    assert visit.strangers == []


def test_the_login_page_links_to_no_other_site_and_fits_a_telephone(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 800})
    visit.open("/api/login/")
    expect(visit.page.get_by_role("heading", name="Log in")).to_be_visible()
    links = visit.page.get_by_role("link").all()
    assert [link for link in links if not (link.get_attribute("href") or "").startswith("/")] == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_admin_who_logs_in_sees_the_users_and_their_own_address(admin_visit: Visit) -> None:
    page = admin_visit.page

    expect(page.locator(".response-info")).to_contain_text(ADMIN)
    expect(page.locator(".navbar")).to_contain_text(ADMIN)
    admin_visit.save("api-users")
    admin_visit.assert_quiet()


def test_an_admin_adds_two_users_by_the_html_form(admin_visit: Visit) -> None:
    page = admin_visit.page
    form = page.locator("#post-object-form")
    # A typed password is not readable.
    expect(form.locator("[name=password]")).to_have_attribute("type", "password")
    expect(form.locator("[name=is_admin]")).to_be_visible()
    for name in ("first", "grace"):
        form.locator("[name=email]").fill(f"{name}@browser.example")
        form.locator("[name=password]").fill(PASSWORD)
        form.get_by_role("button", name="POST").click()
        expect(page.locator(".response-info")).to_contain_text("HTTP 201 Created")
        expect(page.locator(".response-info")).to_contain_text(f"{name}@browser.example")
        expect(form.locator("[name=email]")).to_be_visible()

    admin_visit.save("api-user-added")
    admin_visit.open("/api/v1/users/?search=grace")
    expect(page.locator(".response-info")).to_contain_text("grace@browser.example")
    admin_visit.assert_quiet()


def test_an_admin_changes_a_user_by_the_html_form(admin_visit: Visit) -> None:
    page = admin_visit.page
    form = page.locator("#post-object-form")
    form.locator("[name=email]").fill("changed@browser.example")
    form.locator("[name=password]").fill(PASSWORD)
    form.get_by_role("button", name="POST").click()
    answer = page.locator(".response-info")
    expect(answer).to_contain_text("HTTP 201 Created")
    number = re.search(r'"id": (\d+)', answer.text_content() or "")
    assert number is not None, answer.text_content()
    admin_visit.open(f"/api/v1/users/{number[1]}/")
    admin_visit.save("api-user")

    form = page.locator("form", has=page.get_by_role("button", name="PUT")).first
    expect(form.locator("[name=email]")).to_have_value("changed@browser.example")
    expect(form.locator("[name=is_active]")).to_be_checked()
    form.locator("[name=is_admin]").check()
    form.get_by_role("button", name="PUT").click()
    expect(page.locator(".response-info")).to_contain_text("HTTP 200 OK")
    expect(page.locator(".response-info")).to_contain_text('"is_admin": true')
    admin_visit.save("api-user-changed")
    admin_visit.assert_quiet()


def test_an_admin_filters_the_users(admin_visit: Visit) -> None:
    page = admin_visit.page
    page.get_by_role("button", name="Filters").click()
    filters = page.locator("#filtersModal")
    expect(filters.locator("select[name=is_admin]")).to_be_visible()
    admin_visit.save("api-filters", full_page=False)
    assert filters.locator("select").evaluate_all("all => all.map(one => one.value)") == ["", ""]
    filters.locator("select[name=is_admin]").select_option("true")
    filters.locator("button[type=submit]").first.click()

    page.wait_for_url("**is_admin=true**")
    expect(page.locator(".response-info")).to_contain_text(ADMIN)
    admin_visit.assert_quiet()


def test_an_admin_who_logs_out_sees_no_users_any_more(admin_visit: Visit) -> None:
    page = admin_visit.page
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/api/login/")
    admin_visit.save("api-logged-out")

    response = page.goto(page.url.replace("/api/login/", "/api/v1/users/"))
    assert response is not None and response.status == 401
    expect(page.locator(".response-info")).not_to_contain_text(ADMIN)
    expect(page.get_by_role("link", name="Log in")).to_be_visible()
    admin_visit.save("api-users-stranger")


def test_staff_see_all_organizations_and_the_way_out(staff_visit: Visit) -> None:
    page = staff_visit.page
    staff_visit.open("/api/v1/organizations/")

    expect(page.locator(".response-info")).to_contain_text(ORGANIZATION)
    staff_visit.save("api-organizations-staff")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/admin/logout/")
    staff_visit.save("admin-logged-out")
    staff_visit.assert_quiet()


def test_the_pages_of_the_api_lead_to_each_other(admin_visit: Visit) -> None:
    page = admin_visit.page
    page.locator(".navbar-brand").click()
    expect(page.locator(".response-info")).to_contain_text("/api/v1/users/")
    admin_visit.save("api-root")

    page.locator(".response-info a[href$='/api/v1/me/']").click()
    expect(page.locator(".response-info")).to_contain_text(ADMIN)
    admin_visit.save("api-me")
    admin_visit.assert_quiet()


def test_a_browser_without_a_login_sees_no_users(
    admin_visit: Visit, new_visit: Callable[[], Visit]
) -> None:
    stranger = new_visit()
    response = stranger.page.goto(admin_visit.page.url)

    assert response is not None and response.status == 401
    expect(stranger.page.locator(".response-info")).not_to_contain_text(ADMIN)
