"""manage.py reconcile_orgs"""

import io

from django.core.management import call_command
from psycopg import sql

from organizations import lifecycle
from organizations.models import Organization
from organizations.naming import name_key
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import open_session
from tests.organizations.helpers import Superuser, insert_row, manage


def half_made(name: str) -> Organization:
    with open_session() as session:
        row = insert_row(session, name)
        ensure_role(session, role=row.role_name, password="x", key=row.key)
        return row


def test_it_says_when_there_was_nothing_to_do() -> None:
    out = io.StringIO()
    call_command("reconcile_orgs", stdout=out)
    assert out.getvalue() == "Every organization is in order.\n"


def test_it_says_what_it_undid() -> None:
    half_made("Broken Ltd")
    ended = manage("reconcile_orgs")
    assert (ended.returncode, ended.stdout) == (0, "undone: Broken Ltd\n"), ended.stderr


def test_it_waits_as_long_as_it_is_told_and_skips() -> None:
    half_made("Held Ltd")
    out = io.StringIO()
    with open_session() as other:
        assert other.try_lock(name_key("Held Ltd"))
        call_command("reconcile_orgs", wait=0.05, stdout=out)
    assert out.getvalue() == "skipped: Held Ltd\n"
    lifecycle.reconcile_organizations()


def test_what_could_not_be_undone_has_an_exit_code_of_its_own(superuser: Superuser) -> None:
    stuck = half_made("Stuck Ltd")
    role = sql.Identifier(stuck.role_name)
    superuser.execute(sql.SQL("REVOKE ADMIN OPTION FOR {} FROM orgmgmt").format(role))
    try:
        ended = manage("reconcile_orgs")
    finally:
        superuser.execute(sql.SQL("GRANT {} TO orgmgmt WITH ADMIN TRUE").format(role))
        lifecycle.reconcile_organizations()
    assert (ended.returncode, ended.stdout) == (2, "failed: Stuck Ltd\n")
    assert ended.stderr.strip().endswith("Some could not be cleaned up. See the log.")
