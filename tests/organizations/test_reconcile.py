"""Reconciling: undoes sign-ups and finishes deletions of processes that died."""

import pytest
from psycopg import sql

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import ProvisioningFailed
from organizations.models import Organization
from organizations.naming import name_key
from organizations.postgres.databases import ensure_database
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import open_session
from organizations.provisioning import making
from organizations.provisioning.report import Record
from organizations.provisioning.undoing import change_status
from tests.conftest import PASSWORD, Company, leftovers

from .helpers import Superuser, begin_deletion, insert_row

Status = Organization.Status
IN_ORDER: dict[str, list[str]] = {
    name: []
    for name in ("fenced", "undone", "deleted", "kept", "archived", "recorded")
    + ("skipped", "failed")
}


def half_made(name: str) -> Organization:
    """What a process leaves that died after the step `database`."""
    with open_session() as session:
        row = insert_row(session, name)
        ensure_role(session, role=row.role_name, password="x", key=row.key)
        ensure_database(session, database=row.database_name, role=row.role_name, key=row.key)
        Record(session, row).reached(Organization.Step.DATABASE)
    return row


def half_deleted(name: str) -> Organization:
    """What a process leaves that died before it dropped the database."""
    made = lifecycle.create_organization(name=name, email="admin@test.com", password=PASSWORD)
    begin_deletion(made.organization)
    return made.organization


def test_a_sign_up_that_died_is_undone(superuser: Superuser) -> None:
    row = half_made("Dead Ltd")
    assert lifecycle.reconcile_organizations() == IN_ORDER | {"undone": ["Dead Ltd"]}
    assert not Organization.objects.filter(pk=row.pk).exists()
    assert leftovers(superuser) == (set(), set())
    assert lifecycle.reconcile_organizations() == IN_ORDER


def test_a_deletion_that_died_is_finished(superuser: Superuser) -> None:
    row = half_deleted("Dying Ltd")
    assert lifecycle.reconcile_organizations() == IN_ORDER | {
        "fenced": ["Dying Ltd"],
        "deleted": ["Dying Ltd"],
    }
    row.refresh_from_db()
    assert (row.status, row.sealed_password) == (Status.DELETED, "")
    assert leftovers(superuser) == (set(), set())


def test_a_deletion_that_died_after_the_drop_is_finished(superuser: Superuser) -> None:
    row = half_deleted("Dropped Ltd")
    superuser.execute(
        sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(row.database_name))
    )
    superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(row.role_name)))
    assert lifecycle.reconcile_organizations()["deleted"] == ["Dropped Ltd"]


def test_another_deletion_than_the_rows_is_not_finished() -> None:
    row = half_deleted("Twice Dying Ltd")
    rows = Organization.objects.filter(pk=row.pk)
    rows.update(deletion="0" * 32)
    assert lifecycle.reconcile_organizations() == IN_ORDER | {
        "fenced": ["Twice Dying Ltd"],
        "failed": ["Twice Dying Ltd"],
    }
    rows.update(deletion=row.deletion)
    assert lifecycle.reconcile_organizations() == IN_ORDER | {"deleted": ["Twice Dying Ltd"]}


def test_one_that_failed_is_undone(superuser: Superuser) -> None:
    row = half_made("Failed Ltd")
    change_status(row, Status.FAILED, only_from=(Status.PROVISIONING,), reason="the disk is full")
    assert lifecycle.reconcile_organizations()["undone"] == ["Failed Ltd"]
    assert leftovers(superuser) == (set(), set())


def test_one_that_another_process_works_on_is_skipped(superuser: Superuser) -> None:
    row = half_made("Working Ltd")
    with open_session() as other:
        assert other.try_lock(name_key("Working Ltd"))
        outcome = lifecycle.reconcile_organizations(wait_seconds=0.05)
        assert outcome == IN_ORDER | {"skipped": ["Working Ltd"]}
        row.refresh_from_db()
        assert row.status == Status.PROVISIONING
    assert lifecycle.reconcile_organizations()["undone"] == ["Working Ltd"]


def test_one_that_is_in_order_is_left_alone(alpha: Company) -> None:
    assert lifecycle.reconcile_organizations() == IN_ORDER
    lifecycle.suspend_organization(alpha.organization)
    try:
        assert lifecycle.reconcile_organizations() == IN_ORDER
    finally:
        lifecycle.resume_organization(alpha.organization)
    with tenancy.override(alpha.tenant):
        assert User.objects.count() == 1


def test_one_that_cannot_be_undone_does_not_block_the_others(superuser: Superuser) -> None:
    """A superuser took the application's power over the first one's role."""
    stuck, other = half_made("Stuck Ltd"), half_made("Other Ltd")
    role = sql.Identifier(stuck.role_name)
    superuser.execute(sql.SQL("REVOKE ADMIN OPTION FOR {} FROM orgmgmt").format(role))
    try:
        outcome = lifecycle.reconcile_organizations()
        assert outcome == IN_ORDER | {"undone": ["Other Ltd"], "failed": ["Stuck Ltd"]}
        assert not Organization.objects.filter(pk=other.pk).exists(), "the second waits"
        assert Organization.objects.filter(pk=stuck.pk).exists(), "the row knows what is left"
    finally:
        superuser.execute(sql.SQL("GRANT {} TO orgmgmt WITH ADMIN TRUE").format(role))
        assert lifecycle.reconcile_organizations()["undone"] == ["Stuck Ltd"]


def test_a_role_that_cannot_go_stays_without_its_login(superuser: Superuser) -> None:
    """A superuser gave it a right elsewhere; that keeps neither the row nor the name."""
    row = half_made("Held Ltd")
    role = sql.Identifier(row.role_name)
    superuser.execute(sql.SQL("GRANT CONNECT ON DATABASE postgres TO {}").format(role))
    try:
        assert lifecycle.reconcile_organizations()["undone"] == ["Held Ltd"]
        can_login = superuser.execute(
            "SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (row.role_name,)
        ).fetchone()
        assert can_login == (False,)
    finally:
        superuser.execute(sql.SQL("DROP OWNED BY {}").format(role))
        superuser.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_sign_up_that_reconcile_undid_cannot_be_activated() -> None:
    row = half_made("Late Ltd")
    lifecycle.reconcile_organizations()
    with (
        open_session() as session,
        pytest.raises(ProvisioningFailed, match="cleaned up while it was being created"),
    ):
        making._activate(session, row, None)
    assert not Organization.objects.named("Late Ltd").exists()
