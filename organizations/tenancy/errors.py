"""Tenancy errors: no active tenant, wrong tenant, wrong transaction, pool exhausted."""


class TenancyError(Exception):
    """Base class of the tenancy errors."""


class NoTenant(TenancyError):
    """Something of an organization was used while none was active.

    A query, an instance, fetched rows, a cursor, a cache, a file, or code that needs the tenant;
    often in a thread or after the block had ended. what: empty for such code.
    """

    def __init__(self, what: str = "") -> None:
        cause = (
            f"{what} belongs to an organization, but none is active."
            if what
            else "This code needs an active organization."
        )
        super().__init__(f"{cause} Wrap the code in tenancy.override(tenant).")


class WrongTenant(TenancyError):
    """Something of one organization was used while another one was active."""

    def __init__(self, what: str, *, belongs_to: str, active: str) -> None:
        super().__init__(
            f"{what} belongs to {belongs_to}, but {active} is active. "
            "Load it again inside the active organization."
        )


class WrongTransaction(TenancyError):
    """A master transaction was used where the active organization's was needed."""


class TooBusy(TenancyError):
    """A limit of this process is reached. A retry shortly after can succeed."""


class RouteChanged(TooBusy):
    """The organization's database or credential changed since it was looked up. Nothing was sent
    there; a retry looks it up again."""

    def __init__(self) -> None:
        super().__init__("This organization's database has just moved. Try again shortly.")


class RegistryFull(TooBusy):
    """All aliases that this process may register are in use."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(
            f"All {ceiling} aliases of this process are in use. "
            "Try again shortly, or raise ORG_MAX_ALIASES above the number of threads."
        )


class ConnectionsExhausted(TooBusy):
    """All connections to organizations that this process may open are in use."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(
            f"All {ceiling} connections of this process to organizations' databases are in use. "
            "Try again shortly, or raise ORG_MAX_CONNECTIONS above the number of threads."
        )


class NoFileAddress(TenancyError, AttributeError):
    """An organization's file has no URL.

    An AttributeError, so that forms and serializers show the file without one.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} has no URL: a public folder would serve every organization's files. Return "
            "organizations.tenancy.storage.download(...) from a view."
        )


class OrganizationCrowded(TooBusy):
    """An organization uses its maximum of this process's threads, or of connections to its
    database, so that others are not starved."""

    def __init__(self, setting: str, most: int) -> None:
        super().__init__(
            f"This organization has too many requests in progress ({setting} = {most}). "
            "Try again shortly."
        )


class DirectoryMissing(TenancyError):
    """No directory is installed, so no organization can be found."""

    def __init__(self) -> None:
        super().__init__(
            "No tenant directory is installed. Add 'organizations' to INSTALLED_APPS and "
            "call django.setup() first."
        )


class TrailMissing(TenancyError):
    """No audit trail is installed, so nothing that must be recorded can be done."""

    def __init__(self) -> None:
        super().__init__(
            "No audit trail is installed. Add 'organizations' to INSTALLED_APPS and "
            "call django.setup() first."
        )


class MailroomMissing(TenancyError):
    """No mailroom is installed, so no mail can be ordered."""

    def __init__(self) -> None:
        super().__init__(
            "No mailroom is installed. Add 'organizations.jobs' to INSTALLED_APPS and "
            "call django.setup() first."
        )
