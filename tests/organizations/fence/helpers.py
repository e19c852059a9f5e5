"""Changes of a route, and what they leave of an organization's sessions."""

from typing import Any

from organizations.models import Organization
from organizations.postgres.fence import fence
from tests.conftest import Company, Superuser

ME = "/api/v1/me/"
AWAY = (503, "database_unavailable")


def row_of(company: Company) -> Organization:
    return Organization.objects.get(pk=company.organization.pk)


def sessions(superuser: Superuser, company: Company) -> int:
    """Sessions of the organization's role."""
    found = superuser.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = %s",
        (company.organization.role_name,),
    ).fetchone()
    assert found is not None
    return int(str(found[0]))


def change_unheard(company: Company, **values: object) -> None:
    """Commit a change as another process does that dies before it ends any session."""
    Organization.objects.filter(pk=company.organization.pk).update(**values)


def end_sessions(company: Company) -> None:
    """End its sessions, as a restart of the server does."""
    change_unheard(company, pending_fence="by hand")
    fence(row_of(company))


def code_of(response: Any) -> tuple[int, str | None]:
    return response.status_code, response.json().get("code")
