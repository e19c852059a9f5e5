"""`manage.py build_template`: builds the template database."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from organizations.errors import OrganizationError
from organizations.postgres.sessions import open_session
from organizations.provisioning import templates

_WAIT_SECONDS = 600.0


class Command(BaseCommand):
    """Otherwise the first sign-up after a deployment builds it."""

    help = "Build the template database for this code's migrations; new organizations copy it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--rebuild", action="store_true", help="build a new one even if there is one"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.ORG_TEMPLATES:
            raise CommandError("ORG_TEMPLATES is off: no template is used or built.")
        try:
            with open_session() as session:
                session.lock(templates.LOCK, name="template", timeout_seconds=_WAIT_SECONDS)
                found = templates.ready()
                if found is not None and options["rebuild"]:
                    templates.distrust(found)
                    found = None
                dropped = templates.drop_unfinished(session)
                template = found or templates.build(session)
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        for name in dropped:
            self.stdout.write(f"dropped: {name}")
        if template is None:
            for obstacle in templates.obstacles():
                self.stdout.write(f"{obstacle.migration}: {obstacle.what}")
            self.stdout.write(
                "not built: a copy would differ from what these migrations make, so each "
                'organization is migrated by itself (docs/migrations.md, "What is copied")'
            )
            return
        verb = "already exists" if found else "built"
        self.stdout.write(f"{verb}: {template.database_name}")
