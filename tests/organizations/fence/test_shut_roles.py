"""A role that somebody has shut (NOLOGIN) is opened by nothing that repairs or renews it."""

from psycopg import sql

from organizations import lifecycle
from organizations.inspecting import checking
from organizations.naming import role_name
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import open_session
from organizations.recovery import credentials
from tests.conftest import Company, Superuser

from .helpers import row_of


def shut(superuser: Superuser, role: str) -> None:
    superuser.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))


def may_log_in(superuser: Superuser, role: str) -> bool:
    query = "SELECT rolcanlogin FROM pg_roles WHERE rolname = %s"
    [found] = superuser.execute(query, (role,)).fetchone() or [None]
    return found is True


def test_repairing_opens_the_role_of_an_active_organization_alone(
    served: Company, superuser: Superuser
) -> None:
    role = served.organization.role_name
    lifecycle.suspend_organization(row_of(served))
    shut(superuser, role)
    (finding,) = checking.check([served.organization.pk], fix=True)
    (problem,) = finding.problems
    assert problem.what == f"the role {role} cannot log in"
    assert problem.remedy.startswith("unless that is intended, as a superuser: ALTER ROLE ")
    assert not may_log_in(superuser, role)
    lifecycle.resume_organization(row_of(served))
    (finding,) = checking.check([served.organization.pk], fix=True)
    assert finding.problems == () and may_log_in(superuser, role)


def test_a_new_password_opens_no_role_that_was_shut(served: Company, superuser: Superuser) -> None:
    role = served.organization.role_name
    lifecycle.suspend_organization(row_of(served))
    shut(superuser, role)
    credentials.reset(row_of(served))
    assert not may_log_in(superuser, role)


def test_a_role_that_was_shut_stays_so_when_it_is_made_again(superuser: Superuser) -> None:
    role = role_name()
    try:
        with open_session() as session:
            ensure_role(session, role=role, password="x", key="0" * 32)
            assert may_log_in(superuser, role)
            shut(superuser, role)
            ensure_role(session, role=role, password="y", key="0" * 32)
        assert not may_log_in(superuser, role)
    finally:
        superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
