"""Cache KEY_FUNCTION: prefixes keys with the active organization."""

from .context import peek
from .errors import NoTenant


def make_key(key: str, key_prefix: str, version: int) -> str:
    """CACHES' KEY_FUNCTION: the key with the active organization's random key as prefix.

    Without one the prefix is the platform's. Primary keys repeat across organizations, so `user:1`
    alone would collide. Organizations' ids can repeat too, after a restore of the master, while a
    cache remembers; their random keys cannot.
    """
    tenant = peek()
    if tenant is not None and not tenant.key:
        # A spare database being made belongs to nobody yet.
        raise NoTenant("The cache")
    compartment = "platform" if tenant is None else tenant.key
    return f"{key_prefix}:{version}:{compartment}:{key}"
