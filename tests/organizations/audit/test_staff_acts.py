"""Audit entries of staff and operators, in Django admin and from commands."""

import json
import secrets
from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from organizations import audit, lifecycle
from organizations.errors import OrganizationError
from organizations.models import AuditEntry, Organization, Staff
from organizations.recovery import credentials
from tests.conftest import PASSWORD, Company
from tests.organizations.helpers import Superuser, manage_here

from .helpers import NEW_PASSWORD, Entries, acts, hash_of, of, post


# --- Organizations ------------------------------------------------------------------------------
def test_an_organizations_whole_life_is_recorded(request_id: str) -> None:
    name, email = f"Told {request_id}", f"{request_id}@test.com"
    body = {"organization_name": name, "email": email, "password": PASSWORD}
    assert post(Client(), "/org/create", body, request_id).status_code == 201
    organization = lifecycle.find_organization(name)
    lifecycle.suspend_organization(organization)
    lifecycle.resume_organization(organization)
    lifecycle.delete_organization(organization)
    # The mail to the first admin is told of as well, whenever it is sent.
    entries = [each for each in of(organization) if each.act != "email.verification_sent"]
    assert acts(entries) == [
        "user.created",
        "organization.created",
        "organization.suspended",
        "organization.resumed",
        "organization.deleting",
        "organization.deleted",
    ]
    assert [entry.actor for entry in entries] == ["anonymous"] * 2 + ["system"] * 4
    assert entries[0].person and entries[1].request_id == request_id
    organization.refresh_from_db()
    assert organization.sealed_audit_key == "", "its people could still be told"
    assert audit.person(organization.pk, email) == ""


def test_a_failed_sign_up_is_recorded_and_so_is_its_undoing(superuser: Superuser) -> None:
    name = f"Denied {secrets.token_hex(4)}"
    superuser.execute("ALTER ROLE orgmgmt NOCREATEDB")
    try:
        with pytest.raises(OrganizationError):
            lifecycle.create_organization(name=name, email="a@test.com", password=PASSWORD)
    finally:
        superuser.execute("ALTER ROLE orgmgmt CREATEDB")
    undone, failed = AuditEntry.objects.order_by("-id")[:2]
    assert (failed.act, undone.act) == ("organization.create_failed", "organization.undone")
    assert failed.organization_id == undone.organization_id
    assert failed.facts == {"behind_step": "role", "error": "InsufficientPrivilege"}


def test_a_key_rotation_is_recorded_and_keeps_each_organizations_hashes(
    alpha: Company,
) -> None:
    before = hash_of(alpha, alpha.email)
    credentials.reseal_credentials()
    assert of(alpha.organization)[-1].act == "credentials.resealed"
    assert hash_of(alpha, alpha.email) == before


def test_an_organization_older_than_the_trail_gets_its_key_on_first_need(alpha: Company) -> None:
    Organization.objects.filter(pk=alpha.organization.pk).update(sealed_audit_key="")
    first = hash_of(alpha, alpha.email)
    assert len(first) == 64
    assert hash_of(alpha, alpha.email) == first


def test_one_address_has_another_hash_in_each_organization(alpha: Company, beta: Company) -> None:
    assert hash_of(alpha, "x@y.example") != hash_of(beta, "x@y.example")


# --- Staff --------------------------------------------------------------------------------------
def test_staffs_logins_failures_and_logouts_are_recorded(
    staff: Staff, request_id: str, told: Callable[[], Entries]
) -> None:
    client, headers = Client(), {"X-Request-ID": request_id}
    for password in ("wrong", PASSWORD):
        form = {"username": staff.username, "password": password}
        client.post("/admin/login/", form, headers=headers)
    client.post("/admin/logout/", headers=headers)
    failed, begun, ended = told()
    assert acts([failed, begun, ended]) == [
        "staff.login_failed",
        "staff.logged_in",
        "staff.logged_out",
    ]
    assert (failed.actor, failed.actor_id, failed.facts) == ("anonymous", None, {})
    assert (begun.actor, begun.actor_id, ended.actor_id) == ("staff", staff.pk, staff.pk)


def test_what_staff_do_in_the_admin_and_on_the_api_is_theirs(
    staff: Staff, alpha: Company, request_id: str, told: Callable[[], Entries]
) -> None:
    client, headers = Client(), {"X-Request-ID": request_id}
    client.force_login(staff)
    chosen = [str(alpha.organization.pk)]
    data = {"action": "suspend", "confirmed": "yes", "_selected_action": chosen}
    try:
        client.post("/admin/organizations/organization/", data, headers=headers)
    finally:
        lifecycle.resume_organization(alpha.organization)
    (entry,) = told()
    assert (entry.act, entry.actor, entry.actor_id) == (
        "organization.suspended",
        "staff",
        staff.pk,
    )
    body = {"organization_name": "---", "email": "a@test.com", "password": PASSWORD}
    name = f"By staff {request_id}"
    answer = post(client, "/api/v1/organizations/", body | {"organization_name": name}, request_id)
    lifecycle.delete_organization(Organization.objects.get(pk=answer.json()["id"]))
    assert {(entry.actor, entry.actor_id) for entry in told()} == {("staff", staff.pk)}


def test_changes_of_staff_and_groups_are_recorded_without_names(
    staff: Staff, request_id: str, told: Callable[[], Entries]
) -> None:
    client, headers = Client(), {"X-Request-ID": request_id}
    client.force_login(staff)
    name = f"new-{secrets.token_hex(4)}"
    form = {"username": name, "usable_password": "true"}
    form |= {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    client.post("/admin/organizations/staff/add/", form, headers=headers)
    made = Staff.objects.get(username=name)
    client.post(f"/admin/organizations/staff/{made.pk}/password/", form, headers=headers)
    client.post(f"/admin/organizations/staff/{made.pk}/delete/", {"post": "yes"}, headers=headers)
    client.post("/admin/auth/group/add/", {"name": name}, headers=headers)
    group = Group.objects.get(name=name)
    group_id = group.pk
    group.delete()
    entries = told()
    assert acts(entries) == ["staff.changed"] * 4
    assert [(e.facts["verb"], e.facts["model"], e.facts["id"]) for e in entries] == [
        ("added", "staff", made.pk),
        ("changed", "staff", made.pk),
        ("deleted", "staff", made.pk),
        ("added", "group", group_id),
    ]
    assert name not in json.dumps([entry.facts for entry in entries])


def test_staffs_change_of_their_own_password_is_recorded(
    staff: Staff, request_id: str, told: Callable[[], Entries]
) -> None:
    client = Client()
    client.force_login(staff)
    form = {"old_password": PASSWORD, "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    client.post("/admin/password_change/", form, headers={"X-Request-ID": request_id})
    (entry,) = told()
    assert entry.facts == {
        "verb": "changed",
        "model": "staff",
        "id": staff.pk,
        "fields": ["password"],
    }


# --- Commands -----------------------------------------------------------------------------------
def commands_since(newest: int) -> list[str]:
    entries = AuditEntry.objects.filter(pk__gt=newest, act="command.run").order_by("id")
    assert {entry.actor for entry in entries} <= {"command"}
    return [entry.facts["command"] for entry in entries]


def test_a_command_is_recorded_by_its_name_unless_it_only_reads(alpha: Company) -> None:
    newest = AuditEntry.objects.latest("id").pk
    for arguments in (
        ["list_orgs"],
        ["no_such_command"],
        ["clearsessions"],
        ["org_command", alpha.name, "--", "showmigrations"],
    ):
        manage_here(*arguments)
    assert commands_since(newest) == ["clearsessions", "org_command", "showmigrations"]
    inside = AuditEntry.objects.filter(act="command.run").latest("id")
    assert inside.organization_id == alpha.organization.pk


def test_a_wrong_current_password_of_staff_is_recorded(staff_client: Client) -> None:
    last = AuditEntry.objects.order_by("-id").values_list("pk", flat=True).first() or 0
    form = {"old_password": "x", "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    assert staff_client.post("/admin/password_change/", form).status_code == 200
    same = {"old_password": PASSWORD, "new_password1": "a", "new_password2": "b"}
    assert staff_client.post("/admin/password_change/", same).status_code == 200
    (entry,) = AuditEntry.objects.filter(pk__gt=last)
    assert (entry.act, entry.actor) == ("staff.password_refused", "staff")
