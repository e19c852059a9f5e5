"""Who is active, and where their queries go. A leaf: it imports Django alone and has no models.

with tenancy.override(tenant):
    Invoice.objects.create(...)      # in that organization's database, or not at all
"""

from .context import Tenant, bind, get, override, peek, reset
from .errors import (
    DirectoryMissing,
    NoTenant,
    RegistryFull,
    TenancyError,
    TrailMissing,
    WrongTenant,
)
from .router import TenantRouter, is_tenant_model, tenant_labels
from .streaming import aiterate, iterate
from .transaction import atomic, connection, on_commit

__all__ = [
    "DirectoryMissing",
    "NoTenant",
    "RegistryFull",
    "Tenant",
    "TenancyError",
    "TenantRouter",
    "TrailMissing",
    "WrongTenant",
    "aiterate",
    "atomic",
    "bind",
    "connection",
    "get",
    "is_tenant_model",
    "iterate",
    "on_commit",
    "override",
    "peek",
    "reset",
    "tenant_labels",
]
