"""Each act leaves its entry: who, what, which organization, when, from where, in which request."""

import ast
import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts import services as people
from accounts.models import LoginSession, User
from organizations import audit, keys, services, tenancy
from organizations.acts import ACTS
from organizations.errors import OrganizationError
from organizations.models import AuditEntry, Organization, Staff
from organizations.sealing import unseal
from tests.accounts.helpers import bearer, client_of, send, unique_email
from tests.conftest import PASSWORD, Company, leftovers

from .helpers import REPOSITORY, Superuser, manage

NEW_PASSWORD = "another good passphrase"
Entries = list[AuditEntry]


@pytest.fixture
def request_id() -> str:
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
def told(request_id: str) -> Callable[[], Entries]:
    """The entries of requests that carry this test's id, oldest first."""
    return lambda: list(AuditEntry.objects.filter(request_id=request_id).order_by("id"))


@pytest.fixture
def member(alpha: Company) -> Iterator[User]:
    with tenancy.override(alpha.tenant):
        user = people.create_user(email=unique_email(), password=PASSWORD)
    yield user
    with tenancy.override(alpha.tenant):
        User.objects.filter(email_key=user.email_key).delete()


def acts(entries: Entries) -> list[str]:
    return [entry.act for entry in entries]


def hash_of(company: Company, email: str) -> str:
    return audit.person(company.organization.pk, email)


def post(client: Client, path: str, body: Any, request_id: str, **options: Any) -> Any:
    options = {"REMOTE_ADDR": "203.0.113.7", **options}
    headers = {"X-Request-ID": request_id}
    return client.post(path, body, content_type="application/json", headers=headers, **options)


def log_in(client: Client, company: Company, request_id: str, **changes: str) -> Any:
    body = {"organization": company.name, "email": company.email, "password": PASSWORD} | changes
    return post(client, "/api/v1/auth/token/", body, request_id)


# --- The list is complete -----------------------------------------------------------------------
def recorded_in_the_code() -> set[str]:
    """The first argument of every call of record(), recorded() and of what picks one of two."""
    found: set[str] = set()
    for package in ("accounts", "organizations", "orgmgmt"):
        for path in (REPOSITORY / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and node.args:
                    name = ast.unparse(node.func).rpartition(".")[2]
                    if name in ("record", "recorded"):
                        found |= literals(node.args[0], tree)
    return found


def literals(argument: ast.expr, tree: ast.Module) -> set[str]:
    if isinstance(argument, ast.Constant):
        return {str(argument.value)}
    if isinstance(argument, ast.IfExp):
        return literals(argument.body, tree) | literals(argument.orelse, tree)
    name = ast.unparse(argument)
    return {
        value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
        for value in literals(node.value, tree)
    }


def test_every_act_that_the_code_records_is_known() -> None:
    assert recorded_in_the_code() == set(ACTS)


def test_every_act_is_in_the_table_of_the_documentation() -> None:
    text = (REPOSITORY / "docs" / "audit.md").read_text()
    table = text.partition("\n## What is recorded\n")[2].partition("\n## ")[0]
    listed = [row.split("`")[1] for row in table.splitlines() if row.startswith("| `")]
    assert listed == sorted(ACTS)


# --- Logins -------------------------------------------------------------------------------------
def test_a_login_says_who_where_from_when_and_in_which_request(
    alpha: Company, request_id: str, told: Callable[[], Entries]
) -> None:
    before = timezone.now()
    response = log_in(Client(), alpha, request_id)
    assert response["X-Request-ID"] == request_id
    (entry,) = told()
    assert (entry.act, entry.actor, entry.actor_id) == ("login.succeeded", "user", entry.user_id)
    with tenancy.override(alpha.tenant):
        assert entry.user_id == User.objects.get(email=alpha.email).pk
    assert entry.organization_id == alpha.organization.pk
    assert entry.address == "203.0.113.7"
    assert before <= entry.at <= timezone.now()
    assert entry.person == hash_of(alpha, alpha.email.upper())
    assert entry.facts == {"kind": "token"}


def test_a_failed_login_is_told_of_whatever_was_wrong(
    alpha: Company, request_id: str, told: Callable[[], Entries]
) -> None:
    assert log_in(Client(), alpha, request_id, password="wrong").status_code == 401
    assert log_in(Client(), alpha, request_id, email="nobody@x.example").status_code == 401
    assert log_in(Client(), alpha, request_id, organization="No such").status_code == 404
    wrong, unknown, nowhere = told()
    assert acts([wrong, unknown, nowhere]) == ["login.failed"] * 3
    assert (wrong.user_id, wrong.person) == (wrong.user_id or 0, hash_of(alpha, alpha.email))
    assert wrong.actor == "anonymous" and wrong.facts == {"reason": "invalid_credentials"}
    assert (unknown.user_id, unknown.organization_id) == (None, alpha.organization.pk)
    assert unknown.person == hash_of(alpha, "nobody@x.example")
    assert (nowhere.organization_id, nowhere.person) == (None, "")
    assert nowhere.facts == {"reason": "organization_not_found"}


def test_a_login_of_a_suspended_organization_is_told_of_with_its_id(
    alpha: Company, request_id: str, told: Callable[[], Entries]
) -> None:
    services.suspend_organization(alpha.organization)
    try:
        assert log_in(Client(), alpha, request_id).status_code == 403
    finally:
        services.resume_organization(alpha.organization)
    (entry,) = told()
    assert entry.facts == {"reason": "organization_suspended"}
    assert entry.organization_id == alpha.organization.pk


def test_a_member_who_knocks_at_the_admins_door_is_told_of(
    alpha: Company, member: User, request_id: str, told: Callable[[], Entries]
) -> None:
    path = f"/admin/login?organization_name={alpha.name}"
    body = {"email": member.email, "password": PASSWORD}
    assert post(Client(), path, body, request_id).status_code == 403
    (entry,) = told()
    assert (entry.act, entry.user_id) == ("login.admin_required", member.pk)


def test_a_logout_and_a_refresh_token_used_twice_are_told_of(
    alpha: Company, request_id: str, told: Callable[[], Entries]
) -> None:
    refresh = alpha.login(Client())["refresh"]
    path = "/api/v1/auth/token/refresh/"
    post(Client(), path, {"refresh": refresh}, request_id)
    assert told() == [], "a rotation is nothing to tell of"
    for _ in range(2):
        assert post(Client(), path, {"refresh": refresh}, request_id).status_code == 401
    refresh = alpha.login(Client())["refresh"]
    post(Client(), "/api/v1/auth/logout/", {"refresh": refresh}, request_id)
    reused, logout = told()
    assert (reused.act, reused.actor) == ("token.reused", "anonymous")
    assert (logout.act, logout.actor, logout.actor_id) == ("logout", "user", logout.user_id)
    assert reused.person == logout.person == hash_of(alpha, alpha.email)


# --- Users --------------------------------------------------------------------------------------
def test_what_an_admin_does_with_users_is_told_of_by_names_of_fields(
    alpha: Company, request_id: str, told: Callable[[], Entries]
) -> None:
    admin = bearer(alpha.token(Client()))
    email, changed = unique_email(), unique_email("other")
    made = post(admin, "/api/v1/users/", {"email": email, "password": PASSWORD}, request_id).json()
    headers = {"X-Request-ID": request_id}
    one = f"/api/v1/users/{made['id']}/"
    for body in ({"is_admin": True, "email": changed}, {"is_active": False}):
        admin.patch(one, body, content_type="application/json", headers=headers)
    admin.delete(one, headers=headers)
    entries = told()
    assert acts(entries) == ["user.created", "user.updated", "user.deactivated", "user.removed"]
    assert {entry.user_id for entry in entries} == {made["id"]}
    assert {entry.actor for entry in entries} == {"user"}
    created, updated, deactivated, removed = entries
    assert created.actor_id == updated.actor_id == removed.actor_id != made["id"]
    assert created.person == hash_of(alpha, email)
    assert removed.person == hash_of(alpha, changed)
    assert updated.facts == {"fields": ["email", "is_admin"], "is_admin": True}
    assert deactivated.facts == {"fields": ["is_active"], "is_active": False}


def test_a_change_of_ones_own_password_is_told_of(
    alpha: Company, member: User, request_id: str, told: Callable[[], Entries]
) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    post(client_of(alpha, member), "/api/v1/me/password/", body, request_id)
    changed, begun = told()
    assert (changed.act, changed.actor_id, changed.user_id) == (
        "password.changed",
        member.pk,
        member.pk,
    )
    assert begun.act == "login.succeeded"


# --- Organizations ------------------------------------------------------------------------------
def of(organization: Organization) -> Entries:
    return list(AuditEntry.objects.filter(organization_id=organization.pk).order_by("id"))


def test_the_life_of_an_organization_is_told_from_sign_up_to_its_end(request_id: str) -> None:
    name, email = f"Told {request_id}", f"{request_id}@test.com"
    body = {"organization_name": name, "email": email, "password": PASSWORD}
    assert post(Client(), "/org/create", body, request_id).status_code == 201
    organization = services.find_organization(name)
    services.suspend_organization(organization)
    services.resume_organization(organization)
    services.delete_organization(organization)
    entries = of(organization)
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


def test_a_sign_up_that_fails_is_told_of_and_so_is_its_end(superuser: Superuser) -> None:
    name = f"Denied {secrets.token_hex(4)}"
    superuser.execute("ALTER ROLE orgmgmt NOCREATEDB")
    try:
        with pytest.raises(OrganizationError):
            services.create_organization(name=name, email="a@test.com", password=PASSWORD)
    finally:
        superuser.execute("ALTER ROLE orgmgmt CREATEDB")
    undone, failed = AuditEntry.objects.order_by("-id")[:2]
    assert (failed.act, undone.act) == ("organization.create_failed", "organization.undone")
    assert failed.organization_id == undone.organization_id
    assert failed.facts == {"behind_step": "role", "error": "InsufficientPrivilege"}


def test_resealing_is_told_of_for_each_organization_and_keeps_its_hashes(alpha: Company) -> None:
    before = hash_of(alpha, alpha.email)
    keys.reseal_credentials()
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
@pytest.fixture
def staff() -> Iterator[Staff]:
    person = Staff.objects.create_superuser(f"staff-{secrets.token_hex(4)}", None, PASSWORD)
    yield person
    Staff.objects.filter(pk=person.pk).delete()


def test_staff_who_log_in_fail_and_log_out_are_told_of(
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
    data = {"action": "suspend", "_selected_action": [str(alpha.organization.pk)]}
    try:
        client.post("/admin/organizations/organization/", data, headers=headers)
    finally:
        services.resume_organization(alpha.organization)
    (entry,) = told()
    assert (entry.act, entry.actor, entry.actor_id) == (
        "organization.suspended",
        "staff",
        staff.pk,
    )
    body = {"organization_name": "---", "email": "a@test.com", "password": PASSWORD}
    name = f"By staff {request_id}"
    answer = post(client, "/api/v1/organizations/", body | {"organization_name": name}, request_id)
    services.delete_organization(Organization.objects.get(pk=answer.json()["id"]))
    assert {(entry.actor, entry.actor_id) for entry in told()} == {("staff", staff.pk)}


def test_changes_of_staff_and_of_groups_are_told_of_without_names(
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


def test_staff_who_change_their_own_password_are_told_of(
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


def test_a_command_is_told_of_by_its_name_and_one_that_reads_is_not(alpha: Company) -> None:
    newest = AuditEntry.objects.latest("id").pk
    for arguments in (
        ["list_orgs"],
        ["showmigrations"],
        ["no_such_command"],
        ["clearsessions"],
        ["org_command", alpha.name, "--", "showmigrations"],
    ):
        manage(*arguments)
    assert commands_since(newest) == ["clearsessions", "org_command", "showmigrations"]
    inside = AuditEntry.objects.filter(act="command.run").latest("id")
    assert inside.organization_id == alpha.organization.pk


# --- What cannot be recorded is not done --------------------------------------------------------
@pytest.fixture
def broken_trail(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The table refuses entries of one act: the rest of the way is real."""

    def break_for(act: str) -> None:
        real = AuditEntry.objects.create

        def create(**values: Any) -> AuditEntry:
            if values["act"] == act:
                values["actor_id"] = 2**70  # Out of the column's range.
            return real(**values)

        monkeypatch.setattr(AuditEntry.objects, "create", create)

    return break_for


def test_a_user_whose_making_cannot_be_recorded_is_not_made(
    alpha: Company, broken_trail: Callable[[str], None]
) -> None:
    broken_trail("user.created")
    email = unique_email()
    with tenancy.override(alpha.tenant):
        with pytest.raises(DatabaseError):
            people.create_user(email=email, password=PASSWORD)
        assert not User.objects.filter(email=email).exists()


def test_a_user_whose_change_or_removal_cannot_be_recorded_stays(
    alpha: Company, member: User, broken_trail: Callable[[str], None]
) -> None:
    with tenancy.override(alpha.tenant):
        broken_trail("user.updated")
        with pytest.raises(DatabaseError):
            people.update_user(User.objects.get(pk=member.pk), is_admin=True)
        broken_trail("user.removed")
        with pytest.raises(DatabaseError):
            people.remove_user(User.objects.get(pk=member.pk))
        assert not User.objects.get(pk=member.pk).is_admin


def test_a_login_that_cannot_be_recorded_does_not_begin(
    alpha: Company, member: User, broken_trail: Callable[[str], None]
) -> None:
    broken_trail("login.succeeded")
    body = {"organization": alpha.name, "email": member.email, "password": PASSWORD}
    response: Any = send(Client(), "post", "/api/v1/auth/token/", body)
    assert response.status_code != 200
    with tenancy.override(alpha.tenant):
        assert not LoginSession.objects.filter(user=member).exists()


def test_staff_whose_login_cannot_be_recorded_are_not_in(
    staff: Staff, broken_trail: Callable[[str], None]
) -> None:
    broken_trail("staff.logged_in")
    client = Client(raise_request_exception=False)
    client.post("/admin/login/", {"username": staff.username, "password": PASSWORD})
    assert client.get("/admin/").status_code == 302, "they are in"


@pytest.mark.parametrize("act", ["organization.created", "organization.create_failed"])
def test_a_sign_up_that_cannot_be_recorded_leaves_nothing(
    superuser: Superuser, broken_trail: Callable[[str], None], act: str
) -> None:
    broken_trail(act)
    name = f"Untold {secrets.token_hex(4)}"
    if act == "organization.create_failed":
        superuser.execute("ALTER ROLE orgmgmt NOCREATEDB")
    try:
        with pytest.raises(OrganizationError):
            services.create_organization(name=name, email="a@test.com", password=PASSWORD)
    finally:
        superuser.execute("ALTER ROLE orgmgmt CREATEDB")
    assert not Organization.objects.named(name).exists()
    assert leftovers(superuser) == (set(), set())


def test_a_deletion_or_suspension_that_cannot_be_recorded_is_not_done(
    alpha: Company, broken_trail: Callable[[str], None]
) -> None:
    broken_trail("organization.deleting")
    with pytest.raises(DatabaseError):
        services.delete_organization(Organization.objects.get(pk=alpha.organization.pk))
    broken_trail("organization.suspended")
    with pytest.raises(DatabaseError):
        services.suspend_organization(Organization.objects.get(pk=alpha.organization.pk))
    assert services.find_organization(alpha.name).status == Organization.Status.ACTIVE


# --- What is never there ------------------------------------------------------------------------
def test_no_entry_holds_a_password_a_token_an_address_or_a_key(
    alpha: Company, beta: Company, settings: Settings
) -> None:
    everything = json.dumps(list(AuditEntry.objects.values()), default=str)
    row = Organization.objects.get(pk=alpha.organization.pk)
    for secret in (
        PASSWORD,
        NEW_PASSWORD,
        settings.SECRET_KEY,
        settings.CREDENTIAL_KEYS[0],
        row.sealed_password,
        unseal(row.sealed_password, owner=""),
        row.sealed_audit_key,
        unseal(row.sealed_audit_key, owner=""),
        alpha.email,
        alpha.name,
        "eyJ",
        "@",
    ):
        assert secret not in everything


def test_a_request_that_changes_nothing_asks_the_master_nothing_more(alpha: Company) -> None:
    client = bearer(alpha.token(Client()))
    newest = AuditEntry.objects.latest("id").pk
    with CaptureQueriesContext(connection) as queries:
        client.get("/api/v1/me/")
    asked = [query["sql"] for query in queries if query["sql"].startswith(("SELECT", "INSERT"))]
    assert len(asked) == 1, "the organization's row, and nothing of the trail"
    assert not AuditEntry.objects.filter(pk__gt=newest).exists()
