"""Aliases of ModelAdmin, which is generic only in the stubs."""

from typing import TYPE_CHECKING, Any

from django.contrib.admin import ModelAdmin

from organizations.models import AuditEntry, BackupRun, Organization, Server

if TYPE_CHECKING:
    AnyAdmin = ModelAdmin[Any]
    AuditEntryModelAdmin = ModelAdmin[AuditEntry]
    BackupRunModelAdmin = ModelAdmin[BackupRun]
    OrganizationModelAdmin = ModelAdmin[Organization]
    ServerModelAdmin = ModelAdmin[Server]
else:
    AnyAdmin = AuditEntryModelAdmin = BackupRunModelAdmin = ModelAdmin
    OrganizationModelAdmin = ServerModelAdmin = ModelAdmin
