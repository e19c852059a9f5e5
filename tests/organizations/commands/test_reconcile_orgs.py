"""`manage.py reconcile_orgs`: its output and exit code."""

import io

import pytest
from django.core.management import CommandError, call_command
from psycopg import sql

from organizations import lifecycle
from organizations.models import Organization
from organizations.naming import name_key
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import open_session
from tests.organizations.helpers import Superuser, insert_row


def half_made(name: str) -> Organization:
    with open_session() as session:
        row = insert_row(session, name)
        ensure_role(session, role=row.role_name, password="x", key=row.key)
        return row


def reconcile(**options: float) -> str:
    out = io.StringIO()
    call_command("reconcile_orgs", stdout=out, **options)
    return out.getvalue()


def test_it_says_what_it_undid_and_skipped() -> None:
    half_made("Broken Ltd")
    with open_session() as other:
        assert other.try_lock(name_key("Broken Ltd"))
        assert reconcile(wait=0.05) == "skipped: Broken Ltd\n"
    assert reconcile() == "undone: Broken Ltd\n"
    assert reconcile() == "Every organization is in order.\n"


def test_what_could_not_be_undone_has_an_exit_code_of_its_own(superuser: Superuser) -> None:
    stuck = half_made("Stuck Ltd")
    role = sql.Identifier(stuck.role_name)
    superuser.execute(sql.SQL("REVOKE ADMIN OPTION FOR {} FROM orgmgmt").format(role))
    try:
        with pytest.raises(CommandError, match="Some could not be cleaned up. See the log.") as end:
            reconcile()
    finally:
        superuser.execute(sql.SQL("GRANT {} TO orgmgmt WITH ADMIN TRUE").format(role))
        lifecycle.reconcile_organizations()
    assert end.value.returncode == 2
