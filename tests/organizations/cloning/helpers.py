"""Helpers of the clone tests."""

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.cloning.clone import Cloned
from organizations.isolation.sides import Contents, contents
from organizations.models import Organization
from tests.conftest import Company
from tests.organizations.helpers import as_role_of


def clone(company: Company, *, name: str = "", exact: bool = False) -> Cloned:
    return lifecycle.clone_organization(
        company.organization, name=name or f"{company.name} Copy", exact=exact
    )


def rows_of(organization: Organization) -> Contents:
    """Every row of its database."""
    with as_role_of(organization) as connection:
        return contents(connection)


def row_of(company: Company) -> dict[str, object]:
    """The master's row of it, whole."""
    return dict(Organization.objects.filter(pk=company.organization.pk).values().get())


def add_users(company: Company, *emails: str) -> None:
    with tenancy.override(company.tenant):
        hashed = User.objects.get().password
        for email in emails:
            User.objects.create(email=email, password=hashed)
