"""Django admin as an app: apart from apps.py, which may hold one configuration alone."""

from django.contrib.admin.apps import AdminConfig


class StaffAdminConfig(AdminConfig):
    """Django admin, with a login page that is throttled."""

    default_site = "organizations.staff_login.StaffSite"
