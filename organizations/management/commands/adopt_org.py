"""`manage.py adopt_org DATABASE --name NAME --email ADDRESS`: restores an unknown organization."""

import json
import shlex
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from organizations import adopting
from organizations.errors import OrganizationError

from .create_org import sentence


class Command(BaseCommand):
    """For a master that was restored from before the organization signed up."""

    help = (
        "Bring back an organization whose database check_orgs names as newer than the master. Its "
        "content is copied into a new database of a new role by pg_dump and pg_restore; the old "
        "database is closed and kept. Its people log in as before."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("database", help="as check_orgs names it")
        parser.add_argument("--name", required=True, help="the organization's name")
        parser.add_argument("--email", required=True, help="the address that it is reached by")
        parser.add_argument(
            "--undelete", action="store_true", help="also where the organization was deleted"
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
            f"Adopted organization {organization.name}: number {organization.pk}, database "
            f"{organization.database_name}. {options['database']} is closed and kept. Now run: "
            + shlex.join(["manage.py", "migrate_orgs", "--verify", f"--org={organization.name}"])
        )
