"""Tenant: an organization as tenant code sees it. Place: where its database is."""

from dataclasses import dataclass, field

# Always a prefix and a number: aliases become attributes of asgiref's Local, which one named
# `_storage` would break.
ALIAS_PREFIX = "org_"
# Of an organization's name, in characters.
MAX_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Place:
    """Where an organization's database is, and its role. The password is encrypted.

    is_read_only: its transactions are, unless they are begun otherwise. is_direct: bypass a pooler.
    """

    database_name: str
    role_name: str
    sealed_password: str = field(repr=False)
    is_read_only: bool = False
    is_direct: bool = False


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization as tenant code sees it, without a readable password.

    key: 32 random hexadecimal digits, never reused, unlike an id after a restore of the master.
    Identifies what is stored outside the databases (files, cache entries). place: from the query
    that found the tenant, which saves a second one; None if made from an Organization: then
    connecting queries the master. is_routed: found by the directory for a request, so its queries
    run only while the master lets the organization be served (the fence).
    """

    organization_id: int
    slug: str
    key: str = field(default="", compare=False)
    place: Place | None = field(default=None, compare=False, repr=False)
    is_routed: bool = field(default=False, compare=False, repr=False)
    # The key in django.db.connections; made from the id, never from a name.
    alias: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alias", f"{ALIAS_PREFIX}{self.organization_id}")
