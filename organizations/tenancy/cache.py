"""Cache KEY_FUNCTION: prefixes keys with the active organization."""

from .context import peek
from .errors import NoTenant


def make_key(key: str, key_prefix: str, version: int) -> str:
    """CACHES' KEY_FUNCTION: the key, in the compartment of the active organization.

    Without one the compartment is the platform's. Primary keys repeat across organizations, so
    `user:1` alone would be somebody else's; and organizations' own ids come again where the master
    is restored from a backup, while a cache remembers. Their random keys do not.
    """
    tenant = peek()
    if tenant is not None and not tenant.key:
        # A database that is being made ahead is nobody's yet.
        raise NoTenant("The cache")
    compartment = "platform" if tenant is None else tenant.key
    return f"{key_prefix}:{version}:{compartment}:{key}"
