"""`manage.py export_org NAME --output FILE`: writes all that is stored for an organization."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from organizations.exporting.export import export_organization
from organizations.management.acts import ActCommand
from organizations.management.interrupts import terminated_as_interrupted
from organizations.models import Organization


class Command(ActCommand):
    """For the customer: it can be read without this product."""

    help = (
        "Write all that is stored for an organization into a new ZIP: its rows as JSON lines, its "
        "files, its audit entries, and a manifest with sizes, SHA-256 and what is left out."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--output", required=True, type=Path, metavar="FILE", help="must not exist yet"
        )

    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        try:
            with terminated_as_interrupted():
                self._done = done = export_organization(organization, options["output"])
        except KeyboardInterrupt:
            self.stderr.write("Interrupted. No file is left.")
            sys.exit(130)
        return (
            f"Exported {organization.name} to {done.path}: {done.rows} rows, {done.files} files, "
            f"{decimal(done.size_bytes)}"
        )

    def facts(self, organization: Organization) -> dict[str, Any]:
        done = self._done
        return {
            **super().facts(organization),
            "file": str(done.path),
            "bytes": done.size_bytes,
            "rows": done.rows,
            "files": done.files,
        }
