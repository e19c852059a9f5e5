"""Django admin: the staff's pages of organizations."""

import re
from collections.abc import Callable
from html import unescape

from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from organizations import lifecycle
from organizations.models import Organization, Staff
from organizations.secrets import unseal
from tests.conftest import PASSWORD, Company, leftovers
from tests.organizations.helpers import Superuser, names

LIST = "/admin/organizations/organization/"
ADD = f"{LIST}add/"
Status = Organization.Status


def page(client: Client, path: str, **query: str) -> str:
    response = client.get(path, query)
    assert response.status_code == 200, response
    return unescape(response.content.decode())


def change_page(company: Company) -> str:
    return f"{LIST}{company.organization.pk}/change/"


def run_action(client: Client, action: str, company: Company, **fields: str) -> str:
    chosen = {"action": action, "_selected_action": [str(company.organization.pk)]}
    response = client.post(LIST, chosen | {"confirmed": "yes"} | fields, follow=True)
    assert response.status_code == 200
    return unescape(response.content.decode())


# --- The list -----------------------------------------------------------------------------------
def test_the_list_shows_status_server_database_size_and_date(
    staff_client: Client, alpha: Company
) -> None:
    html = page(staff_client, LIST, q="org_acme_corp")
    (row,) = [row for row in re.findall(r"<tr>.*?</tr>", html, re.S) if ">Acme Corp<" in row]
    cells = dict(re.findall(r'class="field-(\w+)[^"]*">(.*?)</t[dh]>', row, re.S))
    assert cells["status"] == "Active"
    assert cells["server"] == "default"
    assert cells["database_name"] == "org_acme_corp"
    assert re.fullmatch(r"\d+\.\d\sMB", cells["size"]), cells
    assert str(alpha.organization.created_at.year) in cells["created_at"]


def test_the_sizes_of_a_whole_page_cost_one_query(
    staff_client: Client, alpha: Company, beta: Company
) -> None:
    with CaptureQueriesContext(connection) as queries:
        page(staff_client, LIST)
    asked = [query["sql"] for query in queries if "pg_database_size" in query["sql"]]
    assert len(asked) == 1


def test_the_search_finds_by_name_slug_address_and_database(
    staff_client: Client, alpha: Company, beta: Company
) -> None:
    for term in ("Acme-Corp 2", "acme-corp-2", "admin@beta", "org_acme_corp_2"):
        html = page(staff_client, LIST, q=term)
        assert change_page(beta) in html, term
        assert change_page(alpha) not in html, term


def test_the_list_is_filtered_by_status_and_server(
    staff_client: Client, alpha: Company, beta: Company
) -> None:
    lifecycle.suspend_organization(beta.organization)
    try:
        html = page(staff_client, LIST, status__exact="suspended")
    finally:
        lifecycle.resume_organization(beta.organization)
    assert change_page(beta) in html
    assert change_page(alpha) not in html
    server = str(alpha.organization.server_id)
    # Searched for too: alpha is the oldest, and a page holds fifty.
    assert change_page(alpha) in page(staff_client, LIST, server__id__exact=server, q=alpha.name)


def test_a_deleted_organization_shows_no_size_of_a_successor(
    staff_client: Client, company: Callable[..., Company]
) -> None:
    first = company("Resized Ltd")
    lifecycle.delete_organization(first.organization)
    company("Resized Ltd")
    html = page(staff_client, change_page(first))
    size = re.search(r'field-size.*?readonly">(.*?)</div>', html, re.S)
    assert size is not None
    assert size[1] == "–"


# --- Adding -------------------------------------------------------------------------------------
def test_adding_makes_an_organization_and_shows_each_step(staff_client: Client) -> None:
    data = {"organization_name": "Added Ltd", "email": "boss@test.com", "password": PASSWORD}
    response = staff_client.post(ADD, data, follow=True)
    organization = lifecycle.find_organization("Added Ltd")
    lifecycle.delete_organization(organization)
    assert response.redirect_chain == [(f"{LIST}{organization.pk}/change/", 302)]
    html = unescape(response.content.decode())
    assert re.search(
        r"Created Added Ltd with the database org_added_ltd in \d+\.\d\d s: "
        r".*role \S+ s, database \S+ s, schema \S+ s, .*hash \S+ s, admin \S+ s, "
        r"activation \S+ s\.",
        html,
    )
    assert PASSWORD not in html


def test_what_is_wrong_with_an_addition_is_shown_and_nothing_is_made(
    staff_client: Client, alpha: Company, superuser: Superuser
) -> None:
    before = names(superuser, "SELECT datname FROM pg_database")
    fine = {"organization_name": "Wrong Ltd", "email": "boss@test.com", "password": PASSWORD}
    for wrong, sentence in (
        (
            {"organization_name": "acme_corp"},
            "is taken (case is ignored, and a hyphen counts as a space). Choose another name.",
        ),
        ({"organization_name": "---"}, "Use a name with at least one letter"),
        ({"password": "12345678"}, "This password is too common."),
        ({"email": "nobody"}, "Enter a valid email address."),
        ({"organization_name": ""}, "This field is required."),
    ):
        response = staff_client.post(ADD, fine | wrong)
        assert response.status_code == 200
        assert sentence in unescape(response.content.decode())
    assert names(superuser, "SELECT datname FROM pg_database") == before


def test_a_failure_of_the_server_is_shown_as_a_sentence(
    staff_client: Client, superuser: Superuser, settings: Settings, alpha: Company
) -> None:
    data = {"organization_name": "Denied Ltd", "email": "boss@test.com", "password": PASSWORD}
    superuser.execute("ALTER ROLE orgmgmt NOCREATEDB")
    try:
        response = staff_client.post(ADD, data)
    finally:
        superuser.execute("ALTER ROLE orgmgmt CREATEDB")
    assert "could not be created: permission denied." in unescape(response.content.decode())
    # A page of 200 would tell a program, and a monitor, that nothing is wrong.
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert leftovers(superuser) == (set(), set())
    settings.ORG_MAX_ORGANIZATIONS = 1
    response = staff_client.post(ADD, data)
    assert (response.status_code, response["Retry-After"]) == (503, "2")


# --- One organization ---------------------------------------------------------------------------
def test_the_facts_cannot_be_edited(staff_client: Client, alpha: Company) -> None:
    html = page(staff_client, change_page(alpha))
    form = html[html.index('id="organization_form"') :]
    inputs = re.findall(r'<(?:input|select|textarea)[^>]*name="([^"]+)"', form)
    assert set(inputs) <= {"csrfmiddlewaretoken", "_save", "_continue", "_addanother"}


def test_saving_the_page_writes_nothing_to_the_organization(
    staff_client: Client, alpha: Company
) -> None:
    """The services are its only writers: a save here could undo a suspension of that moment."""
    with CaptureQueriesContext(connection) as queries:
        data = {"name": "Evil", "status": "deleted", "database_name": "org_acme_corp_2"}
        staff_client.post(change_page(alpha), data)
    written = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]
    assert [query for query in written if '"organizations"' in query] == []
    row = Organization.objects.get(pk=alpha.organization.pk)
    assert (row.name, row.status, row.database_name) == ("Acme Corp", "active", "org_acme_corp")


def test_no_page_shows_a_credential(staff_client: Client, alpha: Company) -> None:
    row = Organization.objects.get(pk=alpha.organization.pk)
    change = change_page(alpha)
    for path in (LIST, change, change.replace("change", "history")):
        html = page(staff_client, path)
        assert row.sealed_password not in html
        assert unseal(row.sealed_password, owner="") not in html
        assert "sealed" not in html.lower()


def test_nothing_can_be_deleted_here(staff_client: Client, alpha: Company) -> None:
    path = change_page(alpha).replace("change", "delete")
    assert staff_client.post(path, {"post": "yes"}).status_code == 403
    assert "delete_selected" not in page(staff_client, LIST)
    assert lifecycle.find_organization(alpha.name).status == Status.ACTIVE


# --- Who may come in ----------------------------------------------------------------------------
def test_a_stranger_is_sent_to_the_login_page(client: Client, alpha: Company) -> None:
    for path in (LIST, ADD):
        response = client.get(path)
        assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={path}")
    # An organization's token opens no page here.
    header = {"Authorization": f"Bearer {alpha.token(client)}"}
    assert client.get(LIST, headers=header).status_code == 302


def test_an_organizations_admin_cannot_log_in_here(client: Client, alpha: Company) -> None:
    data = {"username": alpha.email, "password": alpha.password}
    response = client.post("/admin/login/", data)
    assert response.status_code == 200, "the form again, and no redirect into the admin"
    assert "_auth_user_id" not in client.session


def test_staff_without_the_permission_neither_add_nor_suspend(
    client: Client, alpha: Company
) -> None:
    staff = Staff.objects.create_user("viewer", None, PASSWORD, is_staff=True)
    client.force_login(staff)
    data = {"organization_name": "Sneaky Ltd", "email": "a@test.com", "password": PASSWORD}
    answers = [client.get(ADD).status_code, client.post(ADD, data).status_code]
    staff.user_permissions.add(Permission.objects.get(codename="view_organization"))
    run_action(client, "suspend", alpha)
    staff.delete()
    assert answers == [403, 403]
    assert not Organization.objects.named("Sneaky Ltd").exists()
    status = lifecycle.find_organization(alpha.name).status
    if status == Status.SUSPENDED:
        lifecycle.resume_organization(alpha.organization)
    assert status == Status.ACTIVE
