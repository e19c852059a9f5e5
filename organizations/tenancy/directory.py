"""Protocol for looking up tenants. The master side installs its implementation.

So this package and the tenant apps can find an organization without importing its models.
"""

from typing import TYPE_CHECKING, Any, Protocol

from .errors import DirectoryMissing

if TYPE_CHECKING:
    from .context import Tenant


class Directory(Protocol):
    """What the master side answers. Every method asks the master database at each call.

    A tenant that it answers knows its place, and connection_settings asks nobody for that one.
    """

    def tenant_by_id(self, organization_id: int) -> "Tenant":
        """The tenant of an organization that may be used now; raises an OrganizationError."""
        ...

    def tenant_by_name(self, name: str) -> "Tenant":
        """The same by any spelling of the name."""
        ...

    def display_name(self, tenant: "Tenant") -> str:
        """What its people call the organization."""
        ...

    def counted_as(self, name: str) -> tuple[int | None, str]:
        """What requests that name an organization are counted by: its id, and a word for a key.

        All spellings have one word, of an organization that does not exist too: None is its id.
        """
        ...

    def connection_settings(self, tenant: "Tenant") -> dict[str, Any]:
        """A DATABASES entry for the tenant's database."""
        ...

    def end_session(self, *, role: str, database: str, pid: int) -> bool:
        """End the back end of a session that the role has with the database; whether one was."""
        ...

    def limit_met(self, *, role: str, database: str) -> str | None:
        """Which limit of connections is reached: the `server`'s, the `role`'s, the `database`'s."""
        ...


_installed: Directory | None = None


def install(directory: Directory) -> None:
    """Make `directory` the one that is asked, in this process."""
    global _installed
    _installed = directory


def get() -> Directory:
    """The installed directory. Raises DirectoryMissing."""
    if _installed is None:
        raise DirectoryMissing
    return _installed
