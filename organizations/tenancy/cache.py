"""Cache keys that two organizations cannot share."""

from .context import peek


def make_key(key: str, key_prefix: str, version: int) -> str:
    """CACHES' KEY_FUNCTION: the key, in the compartment of the active organization.

    Without one the compartment is the platform's. Primary keys repeat across organizations, so
    `user:1` alone would be somebody else's.
    """
    tenant = peek()
    compartment = "platform" if tenant is None else tenant.alias
    return f"{key_prefix}:{version}:{compartment}:{key}"
