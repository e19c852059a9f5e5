"""Base classes of commands that do one act on one organization."""

import json
from abc import abstractmethod
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from organizations import lifecycle
from organizations.document import visible
from organizations.errors import OrganizationError, OrganizationNotFound
from organizations.models import Organization
from organizations.tenancy import TooBusy


class ActCommand(BaseCommand):
    """Finds the organization, does the act, and prints a sentence, or the organization as JSON."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the organization's name, in any spelling")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    @abstractmethod
    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        """Do it; returns the sentence."""

    def find(self, options: dict[str, Any]) -> Organization:
        """The organization. Raises OrganizationError."""
        return lifecycle.find_organization(options["name"])

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            organization = self.find(options)
            said = self.act(organization, options)
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        except (OrganizationError, TooBusy) as error:
            raise CommandError(visible(str(error), keep="\n")) from error
        if options["json"]:
            said = json.dumps(self.facts(organization), ensure_ascii=False)
        self.stdout.write(said)

    def facts(self, organization: Organization) -> dict[str, Any]:
        """What --json prints after the act."""
        return {
            "id": organization.pk,
            "name": organization.name,
            "slug": organization.slug,
            "status": organization.status,
            "database": organization.database_name,
        }


class DeletedActCommand(ActCommand):
    """Finds one by its id too: a deleted organization may have given up its name."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("name", nargs="?", help="the organization's name, in any spelling")
        which.add_argument("--id", type=int, metavar="ID", help="its id, instead of its name")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def find(self, options: dict[str, Any]) -> Organization:
        if options["id"] is None:
            return self.named(options["name"])
        found = Organization.objects.live().filter(pk=options["id"]).first()
        if found is None:
            raise OrganizationNotFound(str(options["id"]))
        return found

    @abstractmethod
    def named(self, name: str) -> Organization:
        """The organization of this name. Raises OrganizationError."""

    def facts(self, organization: Organization) -> dict[str, Any]:
        until = organization.kept_until
        kept_until = None if until is None else until.isoformat()
        return {**super().facts(organization), "kept_until": kept_until}


def sentence(error: ValidationError) -> str:
    """The errors of all fields, on one line."""
    return "; ".join(
        f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items()
    )
