"""Helpers of the fence tests: changes of a route, and the organization's open sessions."""

from typing import Any

import pytest

from organizations.models import Organization
from organizations.postgres import fence as fence_module
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
    """Commit a change like a process that dies before it ends any session."""
    Organization.objects.filter(pk=company.organization.pk).update(**values)


def end_sessions(company: Company) -> None:
    """End its sessions, as a restart of the server does."""
    change_unheard(company, pending_fence="by hand")
    fence(row_of(company))


def let_live(monkeypatch: pytest.MonkeyPatch, *companies: Company) -> None:
    """As if their sessions did not end when they are terminated."""
    told = "pg_terminate_backend(pid)"
    roles = ", ".join(f"'{each.organization.role_name}'" for each in companies)
    statement = fence_module._END.replace(told, f"usename IN ({roles}) OR {told}")
    monkeypatch.setattr(fence_module, "_END", statement)


def code_of(response: Any) -> tuple[int, str | None]:
    return response.status_code, response.json().get("code")
