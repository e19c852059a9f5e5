"""`manage.py create_admin`: adds an admin, or makes an existing user one."""

import json
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import User
from organizations import tenancy
from organizations.models import AuditEntry
from tests.conftest import Company
from tests.organizations.helpers import manage_here

NEW = "a quite different passphrase"


def test_an_organization_gets_another_admin_who_can_log_in(
    company: Callable[..., Company], client: Client
) -> None:
    made = company("Locked Out Ltd")
    words = ["create_admin", "locked-out_ltd", "--email=second@test.com", "--password-stdin"]
    ended = manage_here(*words, "--json", stdin=f"{NEW}\n")
    assert ended.returncode == 0, ended.stderr
    facts = json.loads(ended.stdout)
    assert facts == {"id": 2, "email": "second@test.com", "organization": "Locked Out Ltd"}
    second = Company(made.organization, "second@test.com", NEW)
    assert second.token(client)
    with tenancy.override(made.tenant):
        assert User.objects.get(pk=2).is_admin
    entry = AuditEntry.objects.filter(act="user.created").latest("id")
    assert (entry.actor, entry.organization_id) == ("command", made.organization.pk)


def test_an_existing_user_becomes_admin_and_is_logged_out(
    company: Callable[..., Company], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = company()
    token = made.token(client)
    with tenancy.override(made.tenant):
        User.objects.update(is_active=False, is_admin=False)
    monkeypatch.setenv("ORG_ADMIN_PASSWORD", NEW)
    with pytest.raises(CommandError, match="A user with the e-mail address .* already exists"):
        call_command("create_admin", made.name, email=made.email)
    call_command("create_admin", made.name, email=made.email.upper(), existing=True)
    again = Company(made.organization, made.email, NEW)
    assert again.token(client)
    old = client.get("/api/v1/me/", headers={"Authorization": f"Bearer {token}"})
    assert old.status_code == 401
    with tenancy.override(made.tenant):
        user = User.objects.get()
        assert (user.is_admin, user.is_active, user.email) == (True, True, made.email)


def test_what_is_wrong_is_a_sentence(alpha: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, email, password, existing, sentence in (
        ("Nobody Ltd", "a@test.com", NEW, False, "There is no organization called 'Nobody Ltd'"),
        ("Acme Corp", "a@test.com", "12345678", False, "password: This password is too common"),
        ("Acme Corp", "nobody", NEW, False, "email: "),
        ("Acme Corp", "a@test.com", NEW, True, "There is no user with the address a@test.com"),
    ):
        monkeypatch.setenv("ORG_ADMIN_PASSWORD", password)
        with pytest.raises(CommandError, match=sentence):
            call_command("create_admin", name, email=email, existing=existing)
