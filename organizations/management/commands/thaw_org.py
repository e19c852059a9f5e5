"""`manage.py thaw_org NAME`: brings an archived organization back."""

from typing import Any

from organizations import lifecycle
from organizations.management.acts import ActCommand
from organizations.models import Organization


class Command(ActCommand):
    """The same as POST /api/v1/organizations/{id}/thaw/, without a worker."""

    help = (
        "Bring an archived organization back from its backup, with the status that it had: "
        "accounts, data and files. Users must log in again, and mailed links become invalid."
    )

    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        lifecycle.thaw_organization(organization, tell=lambda step: self.stderr.write(f"{step} …"))
        return f"Thawed organization {organization.name}: it is {organization.status}."
