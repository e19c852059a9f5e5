"""AppConfig of Django admin. Not in apps.py, which may hold only one."""

from django.contrib.admin.apps import AdminConfig


class PlatformAdminConfig(AdminConfig):
    """Django admin, with a rate-limited login page, and a site that writes to the audit trail."""

    default_site = "organizations.staff.record.PlatformAdminSite"
