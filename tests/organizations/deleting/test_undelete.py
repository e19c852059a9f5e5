"""An undeleted organization has its accounts, data and files again, and nobody is logged in."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.test import Client
from psycopg import sql

from accounts.link_tokens import Purpose
from accounts.models import LoginSession, User
from organizations import lifecycle, tenancy
from organizations.deleting import undelete as undeleting
from organizations.errors import (
    DatabaseGone,
    OrganizationBusy,
    OrganizationExists,
    OrganizationNotFound,
    SeveralDeleted,
    UndeletionFailed,
    WrongState,
)
from organizations.models import FormerName, Organization
from organizations.naming import name_key
from organizations.postgres.sessions import open_session
from organizations.provisioning import code
from tests.accounts.link_helpers import token_of
from tests.conftest import PASSWORD, Company, Superuser
from tests.organizations.backups.helpers import execute
from tests.organizations.helpers import (
    as_role_of,
    kill_in_a_fork,
    kill_this_process,
)
from tests.organizations.restoring.test_refused import KEPT

from .helpers import Status, delete, entries, is_aside, let_it_end, problems, row_of

ME = "/api/v1/me/"
JSON = "application/json"


def undelete(company: Company, **how: Any) -> Organization:
    lifecycle.undelete_organization(row_of(company), **how)
    return row_of(company)


def post(client: Client, path: str, **body: str) -> Any:
    return client.post(path, body, content_type=JSON)


def test_accounts_data_and_files_come_back_and_logins_and_links_do_not(
    company: Callable[..., Company], client: Client
) -> None:
    made = company("Back Ltd")
    login = made.login(client)
    token = {"Authorization": f"Bearer {login['access']}"}
    post(client, "/api/login/", organization=made.name, email=made.email, password=PASSWORD)
    with tenancy.override(made.tenant):
        default_storage.save("plan.txt", ContentFile(b"ours"))
        user = User.objects.get()
        other = User.objects.create(email="other@test.com", password="!")
    links = {purpose: token_of(made, user, purpose) for purpose in Purpose}
    before = delete(made)
    row = undelete(made)
    assert (row.status, row.name, row.slug) == (Status.ACTIVE, before.name, before.slug)
    assert (row.kept_until, row.status_before, row.deletion) == (None, "", "")
    assert row.sealed_password != before.sealed_password
    assert problems(made) == []
    (entry,) = entries(made, "organization.undeleted")
    assert entry.facts == {"from": row.slug, "to": row.slug}

    with tenancy.override(row.tenant):
        assert {each.pk for each in User.objects.all()} == {user.pk, other.pk}
        with default_storage.open("plan.txt") as file:
            assert file.read() == b"ours"
        assert not LoginSession.objects.filter(ended_at=None).exists()
    assert client.get(ME, headers=token).status_code == 401
    refreshed = post(client, "/api/v1/auth/token/refresh/", refresh=str(login["refresh"]))
    assert refreshed.status_code == 401
    reset = {"token": links[Purpose.RESET], "new_password": "another good passphrase"}
    assert post(client, "/api/v1/auth/password-reset/confirm/", **reset).status_code == 400
    verify = {"token": links[Purpose.VERIFICATION]}
    assert post(client, "/api/v1/auth/email/verify/", **verify).status_code == 400
    again = {"Authorization": f"Bearer {made.token(client)}"}
    assert client.get(ME, headers=again).status_code == 200


def test_a_suspended_one_comes_back_suspended(company: Callable[..., Company]) -> None:
    made = company()
    lifecycle.suspend_organization(row_of(made), reason="unpaid", message="Pay, please.")
    row = delete(made)
    assert (row.status, row.status_reason) == (Status.TRASHED, "unpaid")
    row = undelete(made)
    assert (row.status, row.status_reason) == (Status.SUSPENDED, "unpaid")
    assert row.status_message == "Pay, please."


def test_with_a_freed_name_it_comes_back_under_another(company: Callable[..., Company]) -> None:
    first = company("Freed Ltd")
    delete(first, free_name=True)
    second = company("freed ltd")
    assert lifecycle.find_trashed("FREED-LTD").pk == first.organization.pk
    with pytest.raises(OrganizationExists):
        undelete(first)
    assert is_aside(first)
    row = undelete(first, name="Freed Again Ltd")
    assert (row.name, row.slug, row.status) == ("Freed Again Ltd", "freed-again-ltd", "active")
    delete(first, free_name=True)
    delete(second, free_name=True)
    lifecycle.find_trashed("Freed Again Ltd")
    third = company("Freed Ltd")
    delete(third, free_name=True)
    ids = f"{second.organization.pk}, {third.organization.pk}"
    with pytest.raises(SeveralDeleted, match=f"--id: {ids}"):
        lifecycle.find_trashed("Freed Ltd")
    row = undelete(third)
    assert (row.name, row.slug) == ("Freed Ltd", "freed-ltd"), "its own, which nobody has"
    with pytest.raises(OrganizationNotFound):
        lifecycle.find_trashed("Nobody Ltd")


def test_with_another_name_its_held_one_is_free(company: Callable[..., Company]) -> None:
    made = company("Held Ltd")
    lifecycle.rename_organization(row_of(made), name="Held Now Ltd")
    delete(made)
    assert lifecycle.find_trashed("Held Ltd").pk == made.organization.pk
    row = undelete(made, name="Held Ltd")
    assert (row.name, row.slug) == ("Held Ltd", "held-ltd"), "a name that it had"
    assert not FormerName.objects.filter(organization=row).exists()
    assert company("Held Now Ltd").organization.slug == "held-now-ltd"


def test_only_a_kept_one_can_come_back(
    company: Callable[..., Company], superuser: Superuser
) -> None:
    made = company()
    with pytest.raises(WrongState, match="is active; it must be trashed"):
        undelete(made)
    row = delete(made)
    with open_session() as session:
        session.lock(name_key(made.name), name=made.name, timeout_seconds=1)
        with pytest.raises(OrganizationBusy):
            undeleting._WAIT_SECONDS, waits = 0.1, undeleting._WAIT_SECONDS
            try:
                undelete(made)
            finally:
                undeleting._WAIT_SECONDS = waits
    database = sql.Identifier(row.database_name)
    superuser.execute(sql.SQL("DROP DATABASE {}").format(database))
    assert problems(made) == ["deleted and kept, but it is missing or broken"]
    with pytest.raises(DatabaseGone):
        undelete(made)
    let_it_end(made)
    assert lifecycle.drop_expired() == []
    with pytest.raises(OrganizationNotFound):
        undelete(made)


def test_what_its_database_refuses_leaves_it_kept(company: Callable[..., Company]) -> None:
    made = company()
    with as_role_of(row_of(made)) as owner:
        owner.execute("ALTER TABLE users RENAME COLUMN token_version TO gone")
    delete(made)
    with pytest.raises(UndeletionFailed, match="is still kept"):
        undelete(made)
    assert is_aside(made) and problems(made) == []
    assert row_of(made).status == Status.TRASHED


def test_a_trigger_that_keeps_links_alive_leaves_it_kept(company: Callable[..., Company]) -> None:
    made = company()
    with as_role_of(row_of(made)) as owner:
        owner.execute(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql "
            "AS $$ BEGIN RETURN NULL; END $$"
        )
        owner.execute(
            "CREATE TRIGGER keeps BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION keep()"
        )
    delete(made)
    with pytest.raises(UndeletionFailed, match="is still kept"):
        undelete(made)
    assert is_aside(made)


def migrate_back(company: Company) -> None:
    """Take back its last migration."""
    names = [name for label, name in code.disk_migrations() if label == "accounts"]
    words = ("accounts", sorted(names)[-2], f"--org={company.name}", "--yes")
    call_command("migrate_orgs", *words, stdout=StringIO())


def test_one_that_lacks_migrations_comes_back_migrated(company: Callable[..., Company]) -> None:
    made = company()
    migrate_back(made)
    assert row_of(made).fingerprint != code.current().fingerprint
    delete(made)
    assert undelete(made).fingerprint == code.current().fingerprint
    assert problems(made) == []


def test_one_whose_migrations_are_unknown_comes_back_migrated(
    company: Callable[..., Company],
) -> None:
    made = company()
    migrate_back(made)
    # As adopt_org leaves it.
    Organization.objects.filter(pk=made.organization.pk).update(fingerprint="")
    delete(made)
    assert undelete(made).fingerprint == ""
    call_command("migrate_orgs", "--verify", f"--org={made.name}", stdout=StringIO())
    assert row_of(made).fingerprint == code.current().fingerprint


@pytest.mark.parametrize("dies", ["in between", "in the commit"])
def test_a_killed_undeletion_is_undone_by_reconciling(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch, client: Client, dies: str
) -> None:
    made = company()
    delete(made)
    with monkeypatch.context() as patched:
        name = "_renewed" if dies == "in between" else "_write"
        patched.setattr(undeleting, name, lambda *_, **__: kill_this_process())
        kill_in_a_fork(lambda: undelete(made))
    assert not is_aside(made)
    assert problems(made) == ["deleted and kept, but it is not out of reach"]
    login = {"organization": made.name, "email": made.email, "password": PASSWORD}
    assert post(client, "/api/v1/auth/token/", **login).status_code == 404
    assert lifecycle.reconcile_organizations()["kept"] == [made.name]
    assert is_aside(made)
    assert undelete(made).status == Status.ACTIVE


def test_a_slug_that_is_taken_at_that_moment_gets_a_variant(
    company: Callable[..., Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = company("Slug Race Ltd")
    delete(made, free_name=True)
    taken = company().organization.slug
    monkeypatch.setattr(undeleting, "free_name", lambda session, name, *, to: taken)
    row = undelete(made)
    assert row.slug.startswith(f"{taken}-") and row.status == Status.ACTIVE


def test_a_trigger_that_leads_to_other_tables_keeps_no_login(
    company: Callable[..., Company], client: Client
) -> None:
    made = company("Decoy Ltd")
    made.login(client)
    execute(made, KEPT["log-ins, by a decoy"])
    delete(made)
    with pytest.raises(UndeletionFailed):
        undelete(made)
    assert row_of(made).status == Status.TRASHED
