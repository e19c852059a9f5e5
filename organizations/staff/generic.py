"""Aliases of ModelAdmin, which is generic only in the stubs."""

from typing import TYPE_CHECKING, Any

from django.contrib.admin import ModelAdmin

from organizations.models import AuditEntry, Organization, Server

if TYPE_CHECKING:
    AnyAdmin = ModelAdmin[Any]
    AuditEntryModelAdmin = ModelAdmin[AuditEntry]
    OrganizationModelAdmin = ModelAdmin[Organization]
    ServerModelAdmin = ModelAdmin[Server]
else:
    AnyAdmin = AuditEntryModelAdmin = OrganizationModelAdmin = ServerModelAdmin = ModelAdmin
