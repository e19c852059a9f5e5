"""Tenancy errors: no active tenant, wrong tenant, wrong transaction, pool exhausted."""


class TenancyError(Exception):
    """Root of everything the tenancy package raises."""


class NoTenant(TenancyError):
    """A tenant app was queried while no organization was active."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} belongs to an organization, and none is active. "
            "Wrap the code in tenancy.override(tenant)."
        )


class WrongTenant(TenancyError):
    """Something of one organization was used while another one was active."""

    def __init__(self, what: str, *, belongs_to: str, active: str) -> None:
        super().__init__(
            f"{what} belongs to {belongs_to}, but {active} is active. "
            "Load it again inside the organization that is active."
        )


class WrongTransaction(TenancyError):
    """A transaction of the master's was taken for the active organization's."""


class TooBusy(TenancyError):
    """What this process may use at a time is in use. Trying again shortly helps."""


class RegistryFull(TooBusy):
    """Every alias this process may register is in use at this moment."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(
            f"All {ceiling} aliases of this process are in use. "
            "Try again shortly, or raise ORG_MAX_ALIASES above the number of threads."
        )


class ConnectionsExhausted(TooBusy):
    """Every connection to an organization that this process may open is in use."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(
            f"All {ceiling} connections of this process to organizations' databases are in use. "
            "Try again shortly, or raise ORG_MAX_CONNECTIONS above the number of threads."
        )


class NoFileAddress(TenancyError, AttributeError):
    """A file of an organization was asked for its address.

    An AttributeError, so that forms and serializers show a file without one.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} has no address: a folder on the web would serve every organization's files. "
            "Answer with organizations.tenancy.storage.download(...) in a view of yours."
        )


class OrganizationCrowded(TooBusy):
    """An organization has as many threads of this process, or connections to its database, as one
    may have: it gets no more, so that others do."""

    def __init__(self, setting: str, most: int) -> None:
        super().__init__(
            f"This organization has as much under way as it may have at a time ({setting} = "
            f"{most}). Try again shortly."
        )


class DirectoryMissing(TenancyError):
    """No directory was installed, so no organization can be found."""

    def __init__(self) -> None:
        super().__init__(
            "No tenant directory is installed. Add 'organizations' to INSTALLED_APPS and "
            "call django.setup() first."
        )


class TrailMissing(TenancyError):
    """No audit trail was installed, so nothing that must be recorded can be done."""

    def __init__(self) -> None:
        super().__init__(
            "No audit trail is installed. Add 'organizations' to INSTALLED_APPS and "
            "call django.setup() first."
        )


class MailroomMissing(TenancyError):
    """No mailroom was installed, so no mail can be asked for."""

    def __init__(self) -> None:
        super().__init__(
            "No mailroom is installed. Add 'organizations.jobs' to INSTALLED_APPS and "
            "call django.setup() first."
        )
