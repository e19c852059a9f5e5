"""Audit entries of each action: who, what, which organization, when, from where, which request."""

import ast
import json
import re
from collections.abc import Callable

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.audit.events import ACTS
from organizations.models import AuditEntry, Organization
from organizations.secrets import unseal
from tests.accounts.helpers import bearer, client_of, unique_email
from tests.conftest import PASSWORD, Company
from tests.organizations.helpers import REPOSITORY

from .helpers import NEW_PASSWORD, Entries, acts, hash_of, log_in, post


# --- The list is complete -----------------------------------------------------------------------
def recorded_in_the_code() -> set[str]:
    """The first argument of every call of record(), recorded() and of what picks one of two."""
    found: set[str] = set()
    for package in ("accounts", "organizations", "orgmgmt"):
        for path in (REPOSITORY / package).rglob("*.py"):
            source = path.read_text()
            if not re.search(r"\brecord(ed)?\(", source):
                continue
            tree = ast.parse(source)
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


def test_a_failed_login_is_recorded_whatever_was_wrong(
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


def test_attempts_elsewhere_are_not_recorded_for_the_tokens_organization(
    alpha: Company, request_id: str, told: Callable[[], Entries], settings: Settings
) -> None:
    settings.ORG_PUBLIC_LOOKUP, settings.LOGIN_FLOOR_MS = "off", 0
    client = Client(headers={"Authorization": f"Bearer {alpha.token(Client())}"})
    log_in(client, alpha, request_id, organization="No such")
    headers = {"X-Request-ID": request_id}
    body = {"organization": "No such", "email": alpha.email}
    client.post("/api/v1/auth/password-reset/", body, headers=headers)
    client.post("/api/v1/auth/email/verify/", {"token": "x"}, headers=headers)
    client.post("/admin/login/", {"username": "x", "password": "y"}, headers=headers)
    found = [(entry.act, entry.organization_id, entry.person) for entry in told()]
    assert found == [
        ("login.failed", None, ""),
        ("password.reset_requested", None, ""),
        ("link.refused", None, ""),
        ("staff.login_failed", None, ""),
    ]


def test_an_exceeded_limit_is_not_recorded_for_the_tokens_organization(
    alpha: Company, request_id: str, told: Callable[[], Entries], throttles: Settings
) -> None:
    throttles.THROTTLE_LOGIN_ADDRESS = "1/hour"
    client = Client(headers={"Authorization": f"Bearer {alpha.token(Client())}"})
    for status in (404, 429):
        answer = log_in(client, alpha, request_id, organization="No such")
        assert answer.status_code == status
    _, exceeded = told()
    assert (exceeded.act, exceeded.organization_id) == ("throttle.exceeded", None)


def test_a_login_to_a_suspended_organization_is_recorded_with_its_id(
    alpha: Company, request_id: str, told: Callable[[], Entries]
) -> None:
    lifecycle.suspend_organization(alpha.organization)
    try:
        assert log_in(Client(), alpha, request_id).status_code == 403
    finally:
        lifecycle.resume_organization(alpha.organization)
    (entry,) = told()
    assert entry.facts == {"reason": "organization_suspended"}
    assert entry.organization_id == alpha.organization.pk


def test_a_member_who_tries_the_admins_login_is_recorded(
    alpha: Company, member: User, request_id: str, told: Callable[[], Entries]
) -> None:
    path = f"/admin/login?organization_name={alpha.name}"
    body = {"email": member.email, "password": PASSWORD}
    assert post(Client(), path, body, request_id).status_code == 403
    (entry,) = told()
    assert (entry.act, entry.user_id) == ("login.admin_required", member.pk)


def test_a_logout_and_a_refresh_token_used_twice_are_recorded(
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
def test_an_admins_changes_of_users_are_recorded_by_names_of_fields(
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
    # The mails to the new addresses are told of as well, each at its own time.
    entries = [entry for entry in told() if entry.act.startswith("user.")]
    assert acts(entries) == ["user.created", "user.updated", "user.deactivated", "user.removed"]
    assert {entry.user_id for entry in entries} == {made["id"]}
    assert {entry.actor for entry in entries} == {"user"}
    created, updated, deactivated, removed = entries
    assert created.actor_id == updated.actor_id == removed.actor_id != made["id"]
    assert created.person == hash_of(alpha, email)
    assert removed.person == hash_of(alpha, changed)
    assert updated.facts == {"fields": ["email", "is_admin"], "is_admin": True}
    assert deactivated.facts == {"fields": ["is_active"], "is_active": False}


def test_a_change_of_ones_own_password_is_recorded(
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


def test_a_request_that_changes_nothing_asks_the_master_nothing(alpha: Company) -> None:
    client = bearer(alpha.token(Client()))
    client.get("/api/v1/me/")
    newest = AuditEntry.objects.latest("id").pk
    with CaptureQueriesContext(connection) as queries:
        client.get("/api/v1/me/")
    asked = [query["sql"] for query in queries if query["sql"].startswith(("SELECT", "INSERT"))]
    assert asked == []
    assert not AuditEntry.objects.filter(pk__gt=newest).exists()


# --- Guessing at one's own password -------------------------------------------------------------
def test_a_wrong_current_password_is_recorded(
    alpha: Company, member: User, request_id: str, told: Callable[[], Entries]
) -> None:
    client = client_of(alpha, member)
    told_before = len(told())
    wrong = {"current_password": "not my password", "new_password": NEW_PASSWORD}
    assert post(client, "/api/v1/me/password/", wrong, request_id).status_code == 400
    changed = client.patch(
        "/api/v1/me/",
        {"email": unique_email(), "current_password": "neither this"},
        content_type="application/json",
        headers={"X-Request-ID": request_id},
    )
    assert changed.status_code == 400
    found = told()[told_before:]
    assert acts(found) == ["password.refused"] * 2
    for entry in found:
        assert (entry.actor, entry.actor_id, entry.user_id) == ("user", member.pk, member.pk)
        assert entry.person == hash_of(alpha, member.email)
        assert entry.organization_id == alpha.organization.pk
