"""Django admin: the audit trail can be read and exported, never changed."""

import csv
import io
import re
import secrets
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from organizations.models import AuditEntry, Organization, Staff
from organizations.staff.audit import COLUMNS
from organizations.tenancy import trail
from organizations.tenancy.trail import Origin
from tests.conftest import PASSWORD, Company

LIST = "/admin/organizations/auditentry/"
EXPORT = f"{LIST}export/"


@pytest.fixture
def mark() -> str:
    return f"marked-{secrets.token_hex(6)}"


@pytest.fixture
def entries(alpha: Company, beta: Company, mark: str) -> tuple[AuditEntry, AuditEntry]:
    """An entry of alpha and one of beta, of the same request."""
    with trail.acting(Origin("user", 7, "203.0.113.9", mark)):
        trail.record("user.created", organization_id=alpha.organization.pk, email="a@b.example")
        trail.record("login.failed", organization_id=beta.organization.pk)
    first, second = AuditEntry.objects.filter(request_id=mark).order_by("id")
    return first, second


def shown(client: Client, **query: str | int) -> set[str]:
    """The acts on the page."""
    response = client.get(LIST, query)
    assert response.status_code == 200, response
    result: Any = response.context["cl"].result_list
    return {entry.act for entry in result}


def exported(client: Client, **query: str | int) -> list[list[str]]:
    response: Any = client.get(EXPORT, query)
    assert response.status_code == 200, response
    text = b"".join(response.streaming_content).decode()
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.usefixtures("entries")
def test_the_search_finds_by_request_organization_and_person(
    staff_client: Client, alpha: Company, entries: tuple[AuditEntry, AuditEntry], mark: str
) -> None:
    assert shown(staff_client, q=mark) == {"user.created", "login.failed"}
    assert "user.created" in shown(staff_client, q="acme corp")
    found = shown(staff_client, q=entries[0].person)
    assert "user.created" in found and "login.failed" not in found
    assert shown(staff_client, q="no such thing") == set()


@pytest.mark.usefixtures("entries")
def test_the_list_is_filtered_by_act_actor_organization_and_date(
    staff_client: Client, alpha: Company, mark: str
) -> None:
    both = {"user.created", "login.failed"}
    old = {"at__gte": "2000-01-01 00:00:00+00:00", "at__lt": "2000-01-02 00:00:00+00:00"}
    queries: list[tuple[dict[str, str], set[str]]] = [
        ({"act": "login.failed"}, {"login.failed"}),
        ({"actor": "user"}, both),
        ({"actor": "staff"}, set()),
        ({"organization": str(alpha.organization.pk)}, {"user.created"}),
        ({"organization": "x'"}, set()),
        ({"organization": "9" * 30}, set()),
        (old, set()),
    ]
    for query, found in queries:
        assert shown(staff_client, q=mark, **query) == found, query


def test_the_page_names_the_organization_and_links_the_export(
    staff_client: Client, entries: tuple[AuditEntry, AuditEntry], mark: str
) -> None:
    html = unescape(staff_client.get(LIST, {"q": mark}).content.decode())
    assert ">Acme Corp<" in html
    assert f'href="{EXPORT}?q={mark}"' in html


def test_nothing_can_be_added_changed_or_deleted(
    staff_client: Client, entries: tuple[AuditEntry, AuditEntry]
) -> None:
    one = f"{LIST}{entries[0].pk}/"
    assert staff_client.get(f"{LIST}add/").status_code == 403
    assert staff_client.post(f"{one}change/", {"act": "x"}).status_code == 403
    assert staff_client.post(f"{one}delete/", {"post": "yes"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": [entries[0].pk], "post": "yes"}
    staff_client.post(LIST, action)
    entries[0].refresh_from_db()
    html = unescape(staff_client.get(f"{one}change/").content.decode())
    assert "203.0.113.9" in html
    assert 'name="_save"' not in html


# --- CSV ----------------------------------------------------------------------------------------
def test_the_export_contains_the_filtered_list_and_is_recorded(
    staff_client: Client, alpha: Company, entries: tuple[AuditEntry, AuditEntry], mark: str
) -> None:
    heading, *rows = exported(staff_client, q=mark, act="user.created")
    assert heading == list(COLUMNS)
    (row,) = rows
    values = dict(zip(heading, row, strict=True))
    assert values["organization_name"] == "Acme Corp"
    assert (values["request_id"], values["person"]) == (mark, entries[0].person)
    told = AuditEntry.objects.filter(act="audit.exported").latest("id")
    assert (told.actor, told.facts) == ("staff", {"filters": ["act", "q"]})


def test_the_export_is_more_than_a_page_and_is_streamed(staff_client: Client, mark: str) -> None:
    AuditEntry.objects.bulk_create(
        AuditEntry(act="planted", actor="system", request_id=mark) for _ in range(2_100)
    )
    assert len(exported(staff_client, q=mark)) == 2_101
    assert staff_client.get(EXPORT, {"q": mark}).streaming


@pytest.fixture
def hostile(alpha: Company) -> Iterator[str]:
    """An organization whose name a spreadsheet would run."""
    name = "=HYPERLINK(1)"
    Organization.objects.filter(pk=alpha.organization.pk).update(name=name)
    yield name
    Organization.objects.filter(pk=alpha.organization.pk).update(name=alpha.name)


@pytest.mark.usefixtures("entries")
def test_a_cell_that_a_spreadsheet_would_run_is_made_harmless(
    staff_client: Client, hostile: str, alpha: Company, mark: str
) -> None:
    for beginning in ("=", "+", "-", "@", "\t", "\r"):
        name = f"{beginning}cmd"
        Organization.objects.filter(pk=alpha.organization.pk).update(name=name)
        _, row = exported(staff_client, q=mark, act="user.created")
        assert f"'{name}" in row
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.usefixtures("entries", "hostile")
def test_no_exported_cell_is_a_formula_whatever_separates_cells(
    staff_client: Client, alpha: Company, mark: str
) -> None:
    """A spreadsheet set to German divides them by semicolons, whatever stands in quotes."""
    for between in (";", "; ", ';"', "\t", "|", ";\u2003", "\n"):
        name = f"Acme{between}=HYPERLINK(1)"
        Organization.objects.filter(pk=alpha.organization.pk).update(name=name)
        response: Any = staff_client.get(EXPORT, {"q": mark, "act": "user.created"})
        text = b"".join(response.streaming_content).decode()
        assert "HYPERLINK" in text
        assert not re.search(r"""[;|\t\n][\s"]*[=+@-]""", text), text


def test_a_filter_that_makes_no_sense_leads_back_to_the_list(staff_client: Client) -> None:
    response = staff_client.get(EXPORT, {"at__nonsense": "1"})
    assert (response.status_code, response["Location"]) == (302, LIST)


def test_staff_without_the_permission_read_and_export_nothing(client: Client) -> None:
    staff = Staff.objects.create_user("auditor", None, PASSWORD, is_staff=True)
    client.force_login(staff)
    before = [client.get(path).status_code for path in (LIST, EXPORT)]
    staff.user_permissions.add(Permission.objects.get(codename="view_auditentry"))
    after = [client.get(path).status_code for path in (LIST, EXPORT)]
    staff.delete()
    assert (before, after) == ([403, 403], [200, 200])


def test_strangers_are_sent_to_the_login_page(client: Client) -> None:
    for path in (LIST, EXPORT):
        assert client.get(path)["Location"] == f"/admin/login/?next={path}"
