"""Django admin, used by staff in a browser."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ORGANIZATION, PASSWORD, STAFF, Visit
from tests.real_server import RealServer

pytestmark = pytest.mark.browser


def test_the_path_of_the_first_edition_leads_to_the_login_page(visit: Visit) -> None:
    visit.open("/admin/login")

    expect(visit.page.get_by_label("Username")).to_be_visible()
    visit.save("admin-login")
    visit.assert_quiet()


def test_staff_see_the_organizations_and_where_their_data_are(staff_visit: Visit) -> None:
    page = staff_visit.page
    staff_visit.save("admin-index")
    page.locator(".model-organization").get_by_role("link", name="Organizations").click()

    row = page.locator("#result_list tbody tr", has_text=ORGANIZATION)
    expect(row).to_contain_text("org_browser_works")
    expect(row).to_contain_text("MB")
    expect(page.locator("#user-tools")).to_contain_text(STAFF)
    staff_visit.save("admin-organizations")
    staff_visit.assert_quiet()


def test_staff_add_an_organization_and_see_what_happened(staff_visit: Visit) -> None:
    page = staff_visit.page
    staff_visit.open("/admin/organizations/organization/")
    page.get_by_role("link", name="Add organization").click()
    page.get_by_label("Name:").fill("Added By Staff")
    page.get_by_label("First admin's e-mail:").fill("first@added.example")
    page.get_by_label("First admin's password:").fill(PASSWORD)
    staff_visit.save("admin-add")
    page.get_by_role("button", name="Create organization").click()

    expect(page.locator(".messagelist")).to_contain_text(
        "Created Added By Staff with the database org_added_by_staff in "
    )
    expect(page.locator("#organization_form")).to_contain_text("first@added.example")
    staff_visit.save("admin-added")
    staff_visit.assert_quiet()


def test_a_name_that_is_taken_is_refused_in_the_form(staff_visit: Visit) -> None:
    page = staff_visit.page
    staff_visit.open("/admin/organizations/organization/add/")
    page.get_by_label("Name:").fill("BROWSER  works")
    page.get_by_label("First admin's e-mail:").fill("first@taken.example")
    page.get_by_label("First admin's password:").fill(PASSWORD)
    page.get_by_role("button", name="Create organization").click()

    expect(page.locator(".errorlist")).to_contain_text("BROWSER works")
    expect(page.get_by_label("Name:")).to_have_value("BROWSER  works")
    staff_visit.save("admin-add-refused")
    staff_visit.assert_quiet()


def test_staff_are_shown_no_credential(staff_visit: Visit) -> None:
    page = staff_visit.page
    staff_visit.open("/admin/organizations/organization/")
    page.get_by_role("link", name=ORGANIZATION).click()

    form = page.locator("#organization_form")
    expect(form).to_contain_text("orgrole_")
    assert "password" not in (form.text_content() or "").lower()
    staff_visit.save("admin-organization")
    staff_visit.assert_quiet()


def test_staff_see_the_jobs_and_cancel_one(staff_visit: Visit, server: RealServer) -> None:
    server.manage("reconcile_orgs", "--enqueue")
    server.manage("worker", "--once")
    server.manage("refill_spares", "--enqueue")
    page = staff_visit.page
    staff_visit.open("/admin/")
    page.locator(".model-job").get_by_role("link", name="Jobs").click()

    expect(page.locator("#result_list tbody tr", has_text="reconcile")).to_contain_text("succeeded")
    row = page.locator("#result_list tbody tr", has_text="refill_spares")
    expect(row).to_contain_text("todo")
    row.locator(".action-select").check()
    page.get_by_label("Action:").select_option(value="cancel")
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()
    expect(page.locator(".messagelist")).to_contain_text("Cancelled job ")
    expect(row).to_contain_text("cancelled")
    staff_visit.save("admin-jobs")
    row.get_by_role("link").first.click()
    expect(page.locator("#job_form")).to_contain_text("deferred")
    staff_visit.save("admin-job")
    staff_visit.assert_quiet()
