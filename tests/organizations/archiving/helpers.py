"""Helpers of the archive tests."""

from organizations import lifecycle
from organizations.inspecting import checking
from organizations.models import AuditEntry, Organization
from organizations.postgres import identity
from organizations.postgres.identity import Found
from organizations.postgres.sessions import open_session
from tests.conftest import Company
from tests.organizations.restoring.helpers import row_of

Status = Organization.Status


def archive(company: Company) -> Organization:
    """Archive it; its row."""
    lifecycle.archive_organization(row_of(company))
    return row_of(company)


def thaw(company: Company) -> Organization:
    lifecycle.thaw_organization(row_of(company))
    return row_of(company)


def on_server(row: Organization) -> Found:
    """What the server has under the row's names."""
    with open_session() as session:
        return identity.find(session, role=row.role_name, database=row.database_name)


def problems(company: Company) -> list[str]:
    """What check_orgs says about it."""
    (finding,) = checking.check([company.organization.pk])
    return [problem.what for problem in finding.problems]


def acts(company: Company) -> list[str]:
    rows = AuditEntry.objects.filter(organization_id=company.organization.pk)
    return list(rows.order_by("pk").values_list("act", flat=True))
