"""`manage.py suspend_org NAME`: blocks all access to an organization."""

from argparse import ArgumentParser
from typing import Any

from organizations import lifecycle
from organizations.management.acts import ActCommand
from organizations.models import Organization


class Command(ActCommand):
    """The same as POST /api/v1/organizations/{id}/suspend/."""

    help = (
        "Suspend an organization: blocks all access at once and ends running queries. Migrations "
        "and backups still run; its mails wait until resume_org."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", default="", metavar="TEXT", help="why, for staff")
        parser.add_argument(
            "--message",
            default="",
            metavar="TEXT",
            help="why, for those who are refused",
        )

    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        lifecycle.suspend_organization(
            organization, reason=options["reason"], message=options["message"]
        )
        return f"Suspended organization {organization.name}."
