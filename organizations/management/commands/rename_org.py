"""`manage.py rename_org NAME NEW`: renames an organization."""

from argparse import ArgumentParser
from typing import Any

from organizations import lifecycle
from organizations.management.acts import ActCommand
from organizations.models import Organization


class Command(ActCommand):
    """The same as POST /api/v1/organizations/{id}/rename/."""

    help = (
        "Rename an organization. Its database stays where it is; the old name still finds it for "
        "ORG_NAME_HOLD_DAYS, and nobody else can take it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("new", help="its new name, in any script")

    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        before = organization.name
        lifecycle.rename_organization(organization, name=options["new"])
        return f"Renamed organization {before} to {organization.name}."
