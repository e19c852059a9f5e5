"""`manage.py export_org NAME --output FILE`: writes all that is stored for an organization."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.filesize import decimal

from organizations import lifecycle, tenancy
from organizations.errors import OrganizationError
from organizations.exporting.export import export_organization
from organizations.management.interrupts import terminated_as_interrupted


class Command(BaseCommand):
    """For the customer: it can be read without this product."""

    help = (
        "Write all that is stored for an organization into a new ZIP: its rows as JSON lines, its "
        "files, its audit entries, and a manifest with sizes, SHA-256 and what is left out."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the organization's name, in any spelling")
        parser.add_argument(
            "--output", required=True, type=Path, metavar="FILE", help="must not exist yet"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            organization = lifecycle.find_organization(options["name"])
            with terminated_as_interrupted():
                done = export_organization(organization, options["output"])
        except (OrganizationError, tenancy.TooBusy) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.stderr.write("Interrupted. No file is left.")
            sys.exit(130)
        if options["json"]:
            facts = {
                "id": organization.pk,
                "name": organization.name,
                "slug": organization.slug,
                "file": str(done.path),
                "bytes": done.size_bytes,
                "rows": done.rows,
                "files": done.files,
            }
            self.stdout.write(json.dumps(facts, ensure_ascii=False))
            return
        self.stdout.write(
            f"Exported {organization.name} to {done.path}: {done.rows} rows, {done.files} files, "
            f"{decimal(done.size_bytes)}"
        )
