"""Multi-tenancy core: active tenant, query routing, connections. Imports Django and psycopg only.

with tenancy.override(tenant):
    Invoice.objects.create(...)      # in that organization's database, or not at all
"""

from .context import bind, get, override, peek, reset
from .errors import (
    ConnectionsExhausted,
    DirectoryMissing,
    NoFileAddress,
    NoTenant,
    OrganizationCrowded,
    RegistryFull,
    RouteChanged,
    TenancyError,
    TooBusy,
    TrailMissing,
    WrongTenant,
    WrongTransaction,
)
from .guard import time_limit
from .router import TenantRouter, is_tenant_model, tenant_labels
from .streaming import aiterate, iterate
from .tenant import Place, Tenant
from .transaction import atomic, connection, on_commit

__all__ = [
    "ConnectionsExhausted",
    "DirectoryMissing",
    "NoFileAddress",
    "NoTenant",
    "OrganizationCrowded",
    "Place",
    "RegistryFull",
    "RouteChanged",
    "Tenant",
    "TenancyError",
    "TenantRouter",
    "TooBusy",
    "TrailMissing",
    "WrongTenant",
    "WrongTransaction",
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
    "time_limit",
]
