"""AppConfig of Django admin. Not in apps.py, which may hold only one."""

from django.contrib.admin.apps import AdminConfig


class PlatformAdminConfig(AdminConfig):
    """Django admin, with a login page that is limited and a site that tells the audit trail."""

    default_site = "organizations.staff.record.PlatformAdminSite"
