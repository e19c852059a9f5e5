"""The master database's answers to tenancy: which tenants there are, and how to reach them."""

from typing import Any

from .errors import OrganizationNotFound, OrganizationSuspended
from .models import Organization
from .naming import name_digest
from .provisioning.database import organization_settings
from .tenancy import Tenant


class MasterDirectory:
    """Asks the master database at each call: a suspension counts from the next request on."""

    def tenant_by_id(self, organization_id: int) -> Tenant:
        """The tenant. Raises OrganizationNotFound and OrganizationSuspended."""
        return _usable(Organization.objects.usable().filter(pk=organization_id).first(), "")

    def tenant_by_name(self, name: str) -> Tenant:
        """The tenant, by any spelling. Raises OrganizationNotFound and OrganizationSuspended."""
        return _usable(Organization.objects.usable().named(name).first(), name)

    def display_name(self, tenant: Tenant) -> str:
        """The organization's name. Raises OrganizationNotFound."""
        names = Organization.objects.usable().filter(pk=tenant.organization_id)
        name: str | None = names.values_list("name", flat=True).first()
        if name is None:
            raise OrganizationNotFound(tenant.slug)
        return name

    def counted_as(self, name: str) -> tuple[int | None, str]:
        """Its id and `id:7`, or None and the digest of the folded name."""
        organization_id = (
            Organization.objects.live().named(name).values_list("pk", flat=True).first()
        )
        if organization_id is None:
            return None, f"name:{name_digest(name)}"
        return organization_id, f"id:{organization_id}"

    def connection_settings(self, tenant: Tenant) -> dict[str, Any]:
        """A DATABASES entry. Raises OrganizationNotFound and CredentialUnreadable.

        Of an organization in any state but deleted: provisioning asks too.
        """
        organization = Organization.objects.live().filter(pk=tenant.organization_id).first()
        if organization is None:
            raise OrganizationNotFound(tenant.slug)
        return organization_settings(organization)


def _usable(organization: Organization | None, named: str) -> Tenant:
    if organization is None:
        raise OrganizationNotFound(named)
    if organization.status == Organization.Status.SUSPENDED:
        raise OrganizationSuspended(organization.name, organization_id=organization.pk)
    return organization.tenant
