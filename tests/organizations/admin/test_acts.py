"""The admin's acts on organizations: each asks first, and says what will happen."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

from django.contrib.auth.models import Permission
from django.test import Client
from pytest_django import Settings

from organizations.models import AuditEntry, Organization, Staff
from tests.conftest import PASSWORD, Company

LIST = "/admin/organizations/organization/"


def choose(client: Client, action: str, *companies: Company, **fields: str) -> Any:
    chosen = [str(each.organization.pk) for each in companies]
    data = {"action": action, "_selected_action": chosen, **fields}
    response = client.post(LIST, data, follow=True)
    assert response.status_code == 200
    return response


def text(response: Any) -> str:
    return unescape(response.content.decode())


def row_of(company: Company) -> Organization:
    return Organization.objects.get(pk=company.organization.pk)


def test_nothing_happens_before_it_is_confirmed_on_a_page_that_says_what_will(
    staff_client: Client, alpha: Company
) -> None:
    says = {
        "suspend": "Blocks all access until the organization is resumed",
        "resume": "Restores access",
        "rename": "The database stays where it is",
        "delete": "and the organization can be undeleted",
        "undelete": "Users must log in again",
        "clone": "Nobody is logged in to the clone, and it sends no mail",
        "restore": "A worker makes a new database from the backup",
        "archive": "If something fails before the drop, the organization is reopened",
        "thaw": "with the status that the organization had",
    }
    for act, sentence in says.items():
        response = choose(staff_client, act, alpha)
        page = text(response)
        assert sentence in page and alpha.name in page and not response.redirect_chain
        assert (row_of(alpha).name, row_of(alpha).status) == (alpha.name, "active")
    button = text(staff_client.get(f"{LIST}{alpha.organization.pk}/change/"))
    assert set(re.findall(r'name="action" value="(\w+)"', button)) >= set(says)


def test_what_is_typed_on_the_page_is_used(
    staff_client: Client, company: Callable[..., Company]
) -> None:
    one, other = company(), company()
    fields = {"confirmed": "yes", "reason": "unpaid", "message": "Pay, please."}
    page = text(choose(staff_client, "suspend", one, other, **fields))
    for each in (one, other):
        assert f"Suspended {each.name}." in page
        row = row_of(each)
        assert (row.status_reason, row.status_message) == ("unpaid", "Pay, please.")
    again = text(choose(staff_client, "suspend", one, other, confirmed="yes"))
    assert "is suspended; it must be active" in again
    new = f"{one.name} Ltd"
    page = text(choose(staff_client, "rename", one, confirmed="yes", name=new))
    assert f"Renamed {one.name} to {new}." in page
    entry = AuditEntry.objects.filter(act="organization.renamed").latest("pk")
    assert (entry.actor, entry.organization_id) == ("staff", one.organization.pk)


def test_it_deletes_what_is_named_and_brings_it_back(
    staff_client: Client, company: Callable[..., Company], settings: Settings
) -> None:
    settings.ORG_DELETION_GRACE_DAYS = 30
    one, other = company("Named Here Ltd"), company()
    assert "Choose at most 1." in text(choose(staff_client, "delete", one, other))
    for typed in ("", "named here ltd", other.name):
        page = text(choose(staff_client, "delete", one, confirmed="yes", typed=typed))
        assert ("This is not its name." if typed else "This field is required.") in page
        assert row_of(one).status == "active"
    page = text(choose(staff_client, "delete", one, confirmed="yes", typed=one.name))
    assert f"Deleted {one.name}." in page and row_of(one).status == "trashed"
    page = text(choose(staff_client, "undelete", one, confirmed="yes", name=f"{one.name} 2"))
    assert f"Undeleted {one.name} to {one.name} 2." in page
    page = text(choose(staff_client, "undelete", one, confirmed="yes"))
    assert "is active; it must be trashed" in page
    fields = {"confirmed": "yes", "typed": f"{one.name} 2", "free_name": "on"}
    assert "Deleted" in text(choose(staff_client, "delete", one, **fields))
    assert row_of(one).name_digest == row_of(one).digest_without_name
    entry = AuditEntry.objects.filter(act="organization.trashed").latest("pk")
    assert (entry.actor, entry.facts["name_freed"]) == ("staff", True)


def test_what_is_wrong_is_said_on_the_page(
    staff_client: Client, alpha: Company, beta: Company
) -> None:
    for act, fields, sentence in (
        ("suspend", {"message": "\u202eevil"}, "Use plain text on one line."),
        ("suspend", {"message": "x" * 201}, "at most 200 characters"),
        ("rename", {"name": "---"}, "Use a name with at least one letter"),
        ("rename", {"name": ""}, "This field is required."),
        ("rename", {"name": beta.name}, "is taken"),
    ):
        page = text(choose(staff_client, act, alpha, confirmed="yes", **fields))
        assert sentence in page, (act, fields)
    assert "Choose at most 1." in text(choose(staff_client, "rename", alpha, beta))
    assert (row_of(alpha).name, row_of(alpha).status) == (alpha.name, "active")


def test_each_needs_its_own_permission(
    client: Client, company: Callable[..., Company], settings: Settings
) -> None:
    settings.ORG_DELETION_GRACE_DAYS = 30
    made = company()
    staff = Staff.objects.create_user("actor", None, PASSWORD, is_staff=True)
    client.force_login(staff)
    try:
        for name in ("view_organization", "change_organization"):
            staff.user_permissions.add(Permission.objects.get(codename=name))
        new = f"{made.name} Ltd"
        for act, field, value in (
            ("suspend", "status", "suspended"),
            ("resume", "status", "active"),
            ("rename", "name", new),
            ("delete", "status", "trashed"),
            ("undelete", "status", "active"),
        ):
            before = row_of(made)
            fields = {"confirmed": "yes", "name": new, "typed": row_of(made).name}
            choose(client, act, made, **fields)
            assert getattr(row_of(made), field) == getattr(before, field) != value, act
            staff.user_permissions.add(Permission.objects.get(codename=f"{act}_organization"))
            choose(client, act, made, **fields)
            assert getattr(row_of(made), field) == value, act
    finally:
        staff.delete()
