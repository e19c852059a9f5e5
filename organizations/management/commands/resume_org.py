"""`manage.py resume_org NAME`: restores access to a suspended organization."""

from typing import Any

from organizations import lifecycle
from organizations.management.acts import ActCommand
from organizations.models import Organization


class Command(ActCommand):
    """The same as POST /api/v1/organizations/{id}/resume/."""

    help = "Resume a suspended organization: restores access, and sends waiting mails."

    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        lifecycle.resume_organization(organization)
        return f"Resumed organization {organization.name}."
