"""Protocol for looking up tenants. The master side installs its implementation.

So this package and the tenant apps can find an organization without importing its models.
"""

from typing import Any, Protocol

from .errors import DirectoryMissing
from .tenant import Tenant


class Directory(Protocol):
    """Implemented by the master side. Every method queries the master database at each call.

    Except connection_settings for a tenant found here, since such a tenant knows its place.
    """

    def tenant_by_id(self, organization_id: int) -> Tenant:
        """The tenant of a usable organization. Raises an OrganizationError."""
        ...

    def tenant_by_name(self, name: str) -> Tenant:
        """The same by any spelling of the name."""
        ...

    def confirm(self, tenant: Tenant) -> None:
        """Ask whether the tenant would be found again, as it is. Raises as tenant_by_id does, and
        RouteChanged."""
        ...

    def display_name(self, tenant: Tenant) -> str:
        """The organization's name."""
        ...

    def counted_as(self, name: str) -> tuple[int | None, str]:
        """The organization's id and a key, by which rate limits count requests that name it.

        All spellings have the same key, also of an unknown organization, whose id is None.
        """
        ...

    def was_called(self, tenant: Tenant, slug: str) -> bool:
        """Whether the tenant's slug was this until lately, and is no other organization's now."""
        ...

    def is_clone(self, tenant: Tenant) -> bool:
        """Whether the organization is a clone, which sends no mail."""
        ...

    def refusal_of_write(self, tenant: Tenant) -> Exception | None:
        """Why the organization takes no write; None: it is not read-only."""
        ...

    def connection_settings(self, tenant: Tenant) -> dict[str, Any]:
        """A DATABASES entry for the tenant's database."""
        ...

    def end_session(self, *, role: str, database: str, pid: int) -> bool:
        """Terminate the role's session with the database. Returns whether there was one."""
        ...

    def limit_met(self, *, role: str, database: str) -> str | None:
        """Which connection limit is reached: the `server`'s, the `role`'s, the `database`'s."""
        ...


_installed: Directory | None = None


def install(directory: Directory) -> None:
    """Use this directory in this process."""
    global _installed
    _installed = directory


def get() -> Directory:
    """The installed directory. Raises DirectoryMissing."""
    if _installed is None:
        raise DirectoryMissing
    return _installed
