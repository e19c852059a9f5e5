"""Configures the app organizations: installs the directory, the audit trail, mails and guards."""

from django.apps import AppConfig


class OrganizationsConfig(AppConfig):
    """The master side: which organizations exist, and where their data are."""

    name = "organizations"

    def ready(self) -> None:
        from .api.serializer_guard import guard_serializers
        from .audit import MasterTrail
        from .background.mails import MailJobs
        from .checks import (  # noqa: F401 - registers them
            audit,
            backups,
            jobs,
            migrations,
            openness,
            server,
            settings,
        )
        from .master_directory import MasterDirectory
        from .staff import record
        from .tenancy import checks as tenancy_checks  # noqa: F401 - likewise
        from .tenancy import directory, mailroom, trail
        from .tenancy.instances import guard_instances
        from .tenancy.querysets import guard_query_sets

        directory.install(MasterDirectory())
        trail.install(MasterTrail())
        mailroom.install(MailJobs())
        guard_instances()
        guard_query_sets()
        guard_serializers()
        record.connect()
