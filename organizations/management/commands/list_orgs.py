"""`manage.py list_orgs`"""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from organizations.models import Organization


class Command(BaseCommand):
    """What the master database knows."""

    help = "List the organizations. Tombstones of deleted ones with --all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--all", action="store_true", help="deleted ones too")
        parser.add_argument("--json", action="store_true", help="print one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        organizations = Organization.objects.order_by("id")
        if not options["all"]:
            organizations = organizations.live()
        row = "{:>6}  {:<12}  {:<30}  {:<34}  {}"
        if not options["json"]:
            self.stdout.write(row.format("id", "status", "slug", "database", "name"))
        for organization in organizations.iterator():
            facts = {
                "id": organization.pk,
                "status": organization.status,
                "slug": organization.slug,
                "database": organization.database_name,
                "name": organization.name,
            }
            line = (
                json.dumps(facts, ensure_ascii=False)
                if options["json"]
                else row.format(*facts.values())
            )
            self.stdout.write(line)
