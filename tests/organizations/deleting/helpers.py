"""Helpers of the deletion tests."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from organizations import lifecycle
from organizations.inspecting import checking
from organizations.models import AuditEntry, Organization
from organizations.postgres import aside
from organizations.postgres.sessions import open_session
from tests.conftest import Company

Status = Organization.Status


def row_of(company: Company) -> Organization:
    return Organization.objects.get(pk=company.organization.pk)


def delete(company: Company, **how: Any) -> Organization:
    """Delete it; its row."""
    lifecycle.delete_organization(row_of(company), **how)
    return row_of(company)


def is_aside(company: Company) -> bool:
    row = company.organization
    with open_session() as session:
        return not aside.not_aside(session, [(row.role_name, row.database_name)])


def problems(company: Company) -> list[str]:
    """What check_orgs says about it."""
    (finding,) = checking.check([company.organization.pk])
    return [problem.what for problem in finding.problems]


def entries(company: Company, act: str) -> list[AuditEntry]:
    rows = AuditEntry.objects.filter(organization_id=company.organization.pk, act=act)
    return list(rows.order_by("pk"))


def let_it_end(company: Company) -> None:
    """As if its grace had ended a minute ago."""
    before = timezone.now() - timedelta(minutes=1)
    Organization.objects.filter(pk=company.organization.pk).update(kept_until=before)
