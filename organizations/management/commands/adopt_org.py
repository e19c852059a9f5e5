"""`manage.py adopt_org DATABASE --name NAME --email ADDRESS`: restores an unknown organization."""

import json
import shlex
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from organizations.errors import OrganizationError
from organizations.management.acts import sentence
from organizations.recovery import adopting


class Command(BaseCommand):
    """For a master restored from a backup older than the organization's sign-up."""

    help = (
        "Restore an organization whose database check_orgs reports as newer than the master. Its "
        "content is copied into a new database with a new role by pg_dump and pg_restore; the old "
        "database is closed and kept. Its users log in as before."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("database", help="its name in check_orgs")
        parser.add_argument("--name", required=True, help="the organization's name")
        parser.add_argument("--email", required=True, help="the organization's contact address")
        parser.add_argument(
            "--undelete", action="store_true", help="allow an organization that was deleted"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            organization = adopting.adopt_organization(
                database=options["database"],
                name=options["name"],
                email=options["email"],
                undelete=options["undelete"],
            )
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        facts = {
            "id": organization.pk,
            "name": organization.name,
            "slug": organization.slug,
            "database": organization.database_name,
        }
        if options["json"]:
            self.stdout.write(json.dumps(facts, ensure_ascii=False))
            return
        self.stdout.write(
            f"Adopted organization {organization.name}: id {organization.pk}, database "
            f"{organization.database_name}. {options['database']} is closed and kept. Now run: "
            + shlex.join(["manage.py", "migrate_orgs", "--verify", f"--org={organization.name}"])
        )
