"""`manage.py undelete_org NAME [--as NEW]`: brings a deleted organization back."""

from argparse import ArgumentParser
from typing import Any

from organizations import lifecycle
from organizations.management.acts import DeletedActCommand
from organizations.models import Organization


class Command(DeletedActCommand):
    """The same as POST /api/v1/organizations/{id}/undelete/."""

    help = (
        "Bring a deleted organization back while it is kept: accounts, data and files, as they "
        "were. Users must log in again, and mailed links become invalid."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--as", default="", dest="new", metavar="NEW", help="with another name")

    def named(self, name: str) -> Organization:
        return lifecycle.find_trashed(name)

    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        lifecycle.undelete_organization(organization, name=options["new"])
        return f"Undeleted organization {organization.name}: it is {organization.status}."
