"""`manage.py archive_org NAME`: archives an organization."""

from typing import Any

from organizations import lifecycle
from organizations.management.acts import ActCommand
from organizations.models import Organization


class Command(ActCommand):
    """The same as POST /api/v1/organizations/{id}/archive/, without a worker."""

    help = (
        "Archive an organization: ends all access, makes a last backup, verifies it by a restore, "
        "and only then drops the database and the files. If something fails before the drop, the "
        "organization is reopened as it was. thaw_org brings it back from that backup."
    )

    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        lifecycle.archive_organization(
            organization, tell=lambda step: self.stderr.write(f"{step} …")
        )
        return f"Archived organization {organization.name}."

    def facts(self, organization: Organization) -> dict[str, Any]:
        backup = organization.archived_backup
        return {**super().facts(organization), "backup": None if backup is None else backup.key}
