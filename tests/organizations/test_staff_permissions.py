"""Staff permissions are Django's, over the API and in Django admin."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.test import Client
from pytest_django import Settings

from organizations.models import Staff
from tests.conftest import PASSWORD, Company

ORGANIZATIONS = "/api/v1/organizations/"
Hire = Callable[..., tuple[Staff, Client]]


@pytest.fixture
def hire() -> Iterator[Hire]:
    """Makes a staff user with only these permissions, and a logged-in browser."""
    made: list[Staff] = []

    def make(*permissions: str, **facts: Any) -> tuple[Staff, Client]:
        staff = Staff.objects.create_user(f"staff-{secrets.token_hex(4)}", None, PASSWORD)
        for name, value in {"is_staff": True, **facts}.items():
            setattr(staff, name, value)
        staff.save()
        staff.user_permissions.set([permission(each) for each in permissions])
        made.append(staff)
        client = Client()
        client.force_login(staff)
        return staff, client

    yield make
    for staff in made:
        Staff.objects.filter(pk=staff.pk).delete()


def permission(name: str) -> Permission:
    found: Permission = Permission.objects.get(codename=name)
    return found


def create(client: Client, headers: dict[str, str]) -> Any:
    body = {"organization_name": "", "email": "a@test.com", "password": PASSWORD}
    return client.post(ORGANIZATIONS, body, content_type="application/json", headers=headers)


# --- The API -------------------------------------------------------------------------------------
def test_staff_list_and_create_organizations_by_their_permissions(
    alpha: Company, hire: Hire
) -> None:
    paths = (ORGANIZATIONS, f"{ORGANIZATIONS}{alpha.organization.pk}/")
    cases: dict[tuple[str, ...], tuple[int, int]] = {
        (): (403, 403),
        ("view_organization",): (200, 403),
        ("add_organization",): (403, 400),
        ("change_organization",): (200, 403),
        ("view_organization", "add_organization"): (200, 400),
    }
    for permissions, (read, write) in cases.items():
        _, client = hire(*permissions)
        assert {client.get(path).status_code for path in paths} == {read}, permissions
        for prefer in ({}, {"Prefer": "respond-async"}):
            answer = create(client, headers=prefer)
            assert answer.status_code == write, (permissions, answer.content)


def test_a_closed_lookup_is_open_to_staff_with_the_permission_only(
    alpha: Company, hire: Hire, settings: Settings
) -> None:
    settings.ORG_PUBLIC_LOOKUP = "off"
    for permissions, status in (((), 403), (("view_organization",), 200)):
        _, client = hire(*permissions)
        body = {"organization_name": alpha.name}
        answer = client.post("/org/get", body, content_type="application/json")
        assert answer.status_code == status


# --- Nobody gives what they do not have ----------------------------------------------------------
def form_of(client: Client, path: str) -> dict[str, Any]:
    """The unchanged data of the page's form."""
    page: Any = client.get(path)
    assert page.status_code == 200, page.content
    form = page.context["adminform"].form
    sent: dict[str, Any] = {}
    for bound in form:
        value = bound.value()
        if value is True or isinstance(value, list):
            sent[bound.html_name] = "on" if value is True else value
        elif bound.name == "date_joined":
            sent |= {"date_joined_0": f"{value:%Y-%m-%d}", "date_joined_1": f"{value:%H:%M:%S}"}
        elif value not in (None, False):
            sent[bound.html_name] = value
    return sent


def test_changing_staff_makes_no_superuser_and_gives_no_rights(hire: Hire) -> None:
    me, client = hire("view_staff", "change_staff")
    other, _ = hire()
    group = Group.objects.create(name=f"all-{secrets.token_hex(4)}")
    group.permissions.set(Permission.objects.all())
    right = permission("delete_staff").pk
    for staff in (me, other):
        path = f"/admin/organizations/staff/{staff.pk}/change/"
        body = {
            **form_of(client, path),
            "first_name": "Changed",
            "is_superuser": "on",
            "groups": [group.pk],
            "user_permissions": [right],
        }
        assert client.post(path, body).status_code == 302
        staff = Staff.objects.get(pk=staff.pk)
        assert staff.first_name == "Changed"
        assert not staff.is_superuser
        assert not staff.groups.exists()
        assert not staff.user_permissions.filter(pk=right).exists()
    group.delete()


def test_changing_staff_excludes_those_with_more_rights(hire: Hire) -> None:
    """Their password, set by another, would be their rights."""
    _, client = hire("view_staff", "change_staff", "delete_staff", "add_staff")
    superuser, _ = hire(is_superuser=True)
    stronger, _ = hire("change_organization")
    group = Group.objects.create(name=f"some-{secrets.token_hex(4)}")
    group.permissions.add(permission("view_auditentry"))
    in_group, _ = hire()
    in_group.groups.add(group)
    weaker, _ = hire("view_staff")
    new = {"password1": "another good passphrase", "password2": "another good passphrase"}
    for staff, allowed in ((superuser, 0), (stronger, 0), (in_group, 0), (weaker, 1)):
        page = f"/admin/organizations/staff/{staff.pk}"
        hashed = staff.password
        now = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "is_staff": "on"}
        client.post(f"{page}/change/", {"username": f"{staff.username}x", **now})
        answer = client.post(f"{page}/password/", {"usable_password": "true", **new})
        assert answer.status_code == (302 if allowed else 403)
        assert (Staff.objects.get(pk=staff.pk).password == hashed) is not bool(allowed)
        assert Staff.objects.get(pk=staff.pk).username == staff.username + "x" * allowed
        client.post(f"{page}/delete/", {"post": "yes"})
        assert Staff.objects.filter(pk=staff.pk).exists() is not bool(allowed)
    chosen = {
        "action": "delete_selected",
        "_selected_action": [superuser.pk, stronger.pk],
        "post": "yes",
    }
    client.post("/admin/organizations/staff/", chosen)
    assert Staff.objects.filter(pk__in=[superuser.pk, stronger.pk]).count() == 2
    group.delete()


def test_changing_groups_gives_no_group_a_right(hire: Hire) -> None:
    me, client = hire("view_group", "change_group", "add_group", "delete_group")
    group = Group.objects.create(name=f"mine-{secrets.token_hex(4)}")
    me.groups.add(group)
    path = f"/admin/auth/group/{group.pk}"
    body = {"name": group.name, "permissions": [permission("delete_staff").pk]}
    assert client.get(f"{path}/change/").status_code == 200
    assert client.post(f"{path}/change/", body).status_code == 403
    assert client.post("/admin/auth/group/add/", {**body, "name": "new"}).status_code == 403
    assert client.post(f"{path}/delete/", {"post": "yes"}).status_code == 403
    assert not group.permissions.exists()
    group.delete()


def test_a_superuser_does_all_of_it(staff_client: Client, hire: Hire) -> None:
    other, _ = hire()
    path = f"/admin/organizations/staff/{other.pk}/change/"
    right = permission("view_organization").pk
    body = {**form_of(staff_client, path), "is_superuser": "on", "user_permissions": [right]}
    assert staff_client.post(path, body).status_code == 302
    other = Staff.objects.get(pk=other.pk)
    assert other.is_superuser and other.user_permissions.filter(pk=right).exists()


# --- Lookups -------------------------------------------------------------------------------------
REFUSED = (
    "organizations/organization/?sealed_password__startswith=g",
    "organizations/organization/?server__name__startswith=d",
    "organizations/staff/?password__startswith=a",
    "organizations/staff/?groups__user__password__startswith=a",
    "organizations/auditentry/?facts__limit=login",
    "jobs/job/?args__organization_id=1",
    "auth/group/?permissions__codename=x",
    "organizations/server/?name__startswith=d",
)
OFFERED = (
    "organizations/organization/?status__exact=active&server__id__exact=1&created_at__year=2026",
    "organizations/staff/?is_staff__exact=1&groups__id__exact=1",
    "organizations/auditentry/?act=logout&actor=user&organization=1",
    "organizations/auditentry/?at__gte=2026-01-01+00%3A00%3A00%2B00%3A00",
    "jobs/job/?status__exact=todo&kind=reconcile",
)


def test_a_list_is_filtered_by_what_it_offers_and_by_nothing_else(
    staff_client: Client, alpha: Company
) -> None:
    for status, addresses in ((400, REFUSED), (200, OFFERED)):
        for address in addresses:
            answer = staff_client.get(f"/admin/{address}")
            assert answer.status_code == status, (address, answer.content)


def test_every_list_refuses_every_field_that_it_does_not_offer(staff_client: Client) -> None:
    request: Any = Client().get("/health").wsgi_request
    for model, shown in admin.site._registry.items():
        offered: set[object] = {shown.date_hierarchy}
        for each in shown.list_filter:
            offered.add(each[0] if isinstance(each, tuple) else each)
            offered.add(getattr(each, "parameter_name", None))
        for field in model._meta.get_fields():
            if field.name in offered or field.name == getattr(model._meta.pk, "name", "id"):
                continue
            for suffix in ("", "__startswith", "__isnull", "__regex"):
                lookup = f"{field.name}{suffix}"
                assert not shown.lookup_allowed(lookup, "x", request), (model, lookup)
