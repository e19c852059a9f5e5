from django.apps import AppConfig


class OrganizationsConfig(AppConfig):
    """The master side: which organizations exist, and where their data are."""

    name = "organizations"

    def ready(self) -> None:
        from . import (  # noqa: F401 - registers the system checks
            audit_checks,
            checks,
            edge_checks,
            migration_checks,
            staff_acts,
        )
        from .audit import MasterTrail
        from .directory import MasterDirectory
        from .serializing import guard_serializers
        from .tenancy import checks as tenancy_checks  # noqa: F401 - likewise
        from .tenancy import directory, trail
        from .tenancy.instances import guard_instances
        from .tenancy.querysets import guard_query_sets

        directory.install(MasterDirectory())
        trail.install(MasterTrail())
        guard_instances()
        guard_query_sets()
        guard_serializers()
        staff_acts.connect()
