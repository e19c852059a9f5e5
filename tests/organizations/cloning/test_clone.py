"""A clone has the data and files of one moment, without real addresses, passwords or logins."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client

from accounts import link_tokens, sessions, tokens
from accounts.errors import InvalidCredentials, InvalidToken
from accounts.link_tokens import Purpose
from accounts.models import LoginSession, User
from accounts.services import authenticate, create_user
from organizations import lifecycle, tenancy
from organizations.backups import runs
from organizations.cloning import files
from organizations.errors import (
    BackupRunning,
    CloneFailed,
    OrganizationExists,
    OrganizationNotFound,
    TooManyOrganizations,
)
from organizations.inspecting import checking
from organizations.models import AuditEntry, Organization
from organizations.postgres import identity, transfer
from organizations.postgres.sessions import open_session
from organizations.provisioning import code
from organizations.provisioning.undoing import expected
from organizations.recovery.adopting import adopt_organization
from organizations.recovery.claiming import identify_organizations
from tests.accounts.helpers import bearer
from tests.conftest import PASSWORD, Company, Superuser
from tests.organizations.backups.helpers import execute
from tests.organizations.helpers import together

from .helpers import add_users, clone, row_of, rows_of

Status = Organization.Status


def test_a_clone_has_the_data_and_files_and_nobodys_address_password_or_login(
    made: Company, client: Client, media: Path
) -> None:
    add_users(made, "ada@test.com", "user-1@example.invalid")
    made.token(client)
    execute(made, "CREATE TABLE notes AS SELECT n FROM generate_series(1, 7) AS n")
    with tenancy.override(made.tenant):
        default_storage.save("plans/größe.txt", ContentFile(b"a plan"))
    (media / made.organization.key / "link").symlink_to("/etc/passwd")
    row, before = row_of(made), rows_of(made.organization)

    done = clone(made)

    assert (row_of(made), rows_of(made.organization)) == (row, before), "it was only read"
    new = Organization.objects.get(pk=done.organization.pk)
    assert (new.status, new.cloned_from, new.name) == (
        Status.ACTIVE,
        made.organization.pk,
        f"{made.name} Copy",
    )
    assert new.fingerprint == code.current().fingerprint
    assert new.admin_email == "nobody@example.invalid"
    assert (done.neutralised, done.left_as_they_are, done.files) == (("accounts",), (), 1)
    assert not {new.key, new.database_name, new.role_name} & set(map(str, row.values()))
    after = rows_of(new)
    assert (after["notes"], after["login_sessions"]) == (before["notes"], [])
    assert after["django_migrations"] == before["django_migrations"]
    with tenancy.override(new.tenant):
        users = list(User.objects.order_by("pk"))
        with default_storage.open("plans/größe.txt") as file:
            assert file.read() == b"a plan"
    assert [(user.pk, user.is_admin) for user in users] == [(1, True), (2, False), (3, False)]
    addresses = [user.email for user in users]
    assert all(email.endswith("@example.invalid") for email in addresses)
    assert len({*addresses, "user-1@example.invalid"}) == 4
    assert [user.email_key for user in users] == addresses
    assert not any(user.has_usable_password() for user in users)
    assert [path.name for path in (media / new.key).rglob("*")] == ["plans", "größe.txt"]
    (finding,) = checking.check([new.pk])
    assert (finding.problems, finding.seen and finding.seen.cloned_from) == ((), row["id"])
    facts = {"source": row["id"], "clone": new.pk, "exact": False}
    entries = AuditEntry.objects.filter(act="organization.cloned", facts=facts)
    assert {entry.organization_id for entry in entries} == {row["id"], new.pk}


def test_somebody_logs_in_after_create_admin(made: Company, client: Client) -> None:
    new = clone(made).organization
    with tenancy.override(new.tenant):
        with pytest.raises(InvalidCredentials):
            authenticate(email=made.email, password=PASSWORD)
        create_user(email="me@test.com", password=PASSWORD, is_admin=True)
    shown = bearer(Company(new, "me@test.com").token(client)).get("/api/v1/organization/").json()
    assert (shown["name"], shown["is_clone"]) == (new.name, True)


def test_an_exact_clone_keeps_addresses_and_passwords_and_no_login(
    made: Company, client: Client
) -> None:
    made.token(client)
    before = rows_of(made.organization)
    done = clone(made, exact=True)
    assert (done.neutralised, done.organization.admin_email) == ((), made.email)
    with tenancy.override(done.organization.tenant):
        assert not LoginSession.objects.exists()
        user = User.objects.get()
        assert (user.email, user.password) == before["users"][0][1:2] + (user.password,)
    assert Company(done.organization, made.email).token(client), "with the password of before"


def test_a_credential_of_either_is_refused_by_the_other(made: Company, client: Client) -> None:
    """Even one made out to the other, with the id of a login that both have had."""
    access = made.token(client)
    credential = tokens.read_access(access)
    with tenancy.override(made.tenant):
        session = LoginSession.objects.get(pk=credential.session_id)
        link = link_tokens.token_for(User.objects.get(), purpose=Purpose.RESET)
        cache.set("greeting", "of the original")
    new = clone(made, exact=True).organization
    forged, _ = tokens.issue(session, new.tenant)
    assert bearer(forged).get("/api/v1/me/").status_code == 401
    named = bearer(access).get("/api/v1/me/", headers={"X-Organization": new.slug})
    assert (named.status_code, named.json()["code"]) == (403, "organization_mismatch")
    theirs = Company(new, made.email).token(client)
    with tenancy.override(new.tenant):
        with pytest.raises(InvalidToken):
            sessions.of(credential)
        read = link_tokens.read(link, purpose=Purpose.RESET)
        assert not link_tokens.fits(read, User.objects.get())
        assert cache.get("greeting") is None
        default_storage.save("new.txt", ContentFile(b"the clone's"))
    with tenancy.override(made.tenant):
        with pytest.raises(InvalidToken):
            sessions.of(tokens.read_access(theirs))
        assert not default_storage.exists("new.txt")
        assert cache.get("greeting") == "of the original"
    assert bearer(access).get("/api/v1/me/").status_code == 200, "nobody was logged out"


def test_rows_are_those_of_one_moment_and_nobody_is_held_up(
    made: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = transfer.pipe

    def later(*arguments: Any, **options: Any) -> list[str]:
        add_users(made, "late@test.com")
        execute(made, "SET lock_timeout = '1s'", "UPDATE users SET is_admin = NOT is_admin")
        return pipe(*arguments, **options)

    monkeypatch.setattr(transfer, "pipe", later)
    new = clone(made).organization
    with tenancy.override(new.tenant):
        assert [user.is_admin for user in User.objects.all()] == [True]
    with tenancy.override(made.tenant):
        assert User.objects.count() == 2


def test_a_suspended_organization_is_cloned_and_a_deleted_one_is_not(made: Company) -> None:
    lifecycle.suspend_organization(made.organization, reason="unpaid", message="Pay.")
    new = clone(made).organization
    assert (new.status, new.status_reason, new.status_message) == (Status.ACTIVE, "", "")
    assert row_of(made)["status"] == Status.SUSPENDED
    gone = Company(new, "")
    lifecycle.delete_organization(new)
    with pytest.raises(OrganizationNotFound):
        clone(gone)


def test_the_name_must_be_free_and_there_must_be_room(
    made: Company, beta: Company, settings: Any
) -> None:
    for taken in (made.name, made.name.upper(), beta.name):
        with pytest.raises(OrganizationExists):
            clone(made, name=taken)
    settings.ORG_MAX_ORGANIZATIONS = 1
    with pytest.raises(TooManyOrganizations):
        clone(made)


def test_of_clones_with_one_name_at_once_one_is_made(made: Company, beta: Company) -> None:
    results = together(*[lambda: clone(made, name="Wanted Twice")] * 2)
    assert [type(each).__name__ for each in sorted(results, key=lambda x: type(x).__name__)] == [
        "Cloned",
        "OrganizationExists",
    ]


def test_one_whose_migrations_are_not_the_codes_is_refused(made: Company) -> None:
    execute(made, "DELETE FROM django_migrations WHERE name LIKE '0003%'")
    with pytest.raises(CloneFailed, match="Run manage.py migrate_orgs for it first"):
        clone(made)


def test_what_a_master_of_before_does_not_know_is_adopted_as_a_clone(
    made: Company, superuser: Superuser
) -> None:
    """Else its mails would be sent again."""
    new = clone(made).organization
    with open_session() as session:
        found = identity.find(session, role=new.role_name, database=new.database_name)
    assert found.identity is not None and found.identity.cloned_from == made.organization.pk
    Organization.objects.filter(pk=new.pk).delete()
    adopted = adopt_organization(database=new.database_name, name=new.name, email="a@test.com")
    try:
        assert adopted.cloned_from == made.organization.pk
    finally:
        superuser.execute(f'DROP DATABASE "{new.database_name}" WITH (FORCE)'.encode())
        superuser.execute(f'DROP ROLE "{new.role_name}"'.encode())


def test_identify_orgs_says_of_a_clone_that_it_is_one(made: Company, media: Path) -> None:
    """Also if its database was restored by hand. Its users are the other one's."""
    row = clone(made, exact=True).organization
    with open_session() as session:
        found = identity.require(session, expected(row))
        session.execute(replace(found, databases=(1,)).comment(row.role_name))
    assert [each.refused for each in identify_organizations([row.pk])] == [""]
    with open_session() as session:
        found = identity.require(session, expected(row))
    assert (found.organization, found.cloned_from) == (row.pk, made.organization.pk)


def test_a_call_with_the_key_of_a_clone_that_is_done_or_was_deleted_makes_no_other(
    made: Company, settings: Any
) -> None:
    """A job whose worker died right after is run again."""
    settings.ORG_DELETION_GRACE_DAYS = 30
    first = clone(made).organization
    again = lifecycle.clone_organization(made.organization, name=first.name, key=first.key)
    assert (again.organization.pk, again.rows) == (first.pk, 0)
    lifecycle.delete_organization(first, free_name=True)
    try:
        again = lifecycle.clone_organization(made.organization, name=first.name, key=first.key)
        assert (again.organization.pk, again.organization.status) == (first.pk, Status.TRASHED)
        rows = Organization.objects.filter(pk=first.pk)
        rows.update(status=Status.DELETING)
        again = lifecycle.clone_organization(made.organization, name=first.name, key=first.key)
        assert (again.organization.pk, again.organization.status) == (first.pk, Status.DELETING)
    finally:
        rows.update(status=Status.TRASHED)
        settings.ORG_DELETION_GRACE_DAYS = 0
        lifecycle.undelete_organization(Organization.objects.get(pk=first.pk))


def test_the_name_of_one_that_can_come_back_is_refused_when_it_is_asked_for(
    made: Company, settings: Any
) -> None:
    settings.ORG_DELETION_GRACE_DAYS = 30
    first = clone(made).organization
    lifecycle.delete_organization(first)
    try:
        with pytest.raises(OrganizationExists):
            lifecycle.check_clone(made.organization, name=first.name)
    finally:
        settings.ORG_DELETION_GRACE_DAYS = 0
        lifecycle.undelete_organization(Organization.objects.get(pk=first.pk))


def test_no_restore_switches_between_the_copies_of_database_and_files(
    made: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def first_restore(copy: Callable[..., Any]) -> Callable[..., Any]:
        def copied(*arguments: Any, **options: Any) -> Any:
            with pytest.raises(BackupRunning):
                lifecycle.restore_organization(made.organization)
            refused.append(copy)
            return copy(*arguments, **options)

        return copied

    for module, name in ((transfer, "pipe"), (files, "copy")):
        monkeypatch.setattr(module, name, first_restore(getattr(module, name)))
    clone(made)
    assert len(refused) == 2
    with runs.locked(made.organization.key, name=""), pytest.raises(BackupRunning):
        clone(made, name="Another Copy")
    assert not Organization.objects.live().named("Another Copy").exists()
