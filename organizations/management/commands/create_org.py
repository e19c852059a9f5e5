"""`manage.py create_org NAME --email E`: creates an organization."""

import getpass
import json
import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from organizations import lifecycle
from organizations.errors import OrganizationError
from organizations.management.acts import sentence
from organizations.provisioning.report import Path

_PATHS = {
    Path.PLAIN: "by running the migrations",
    Path.TEMPLATE: "copied from the template",
    Path.SPARE: "a spare database",
}


class Command(BaseCommand):
    """The same as POST /org/create, from a terminal."""

    help = "Create an organization with its role, database, tables and first admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the organization's name, in any script")
        parser.add_argument("--email", required=True, help="the first admin's address")
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="read the admin's password from standard input (or set ORG_ADMIN_PASSWORD); "
            "otherwise it is prompted for",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        password = password_for("the first admin", from_stdin=options["password_stdin"])
        try:
            created = lifecycle.create_organization(
                name=options["name"], email=options["email"], password=password
            )
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        organization, report = created.organization, created.report
        if options["json"]:
            facts = {
                "id": organization.pk,
                "name": organization.name,
                "slug": organization.slug,
                "database": organization.database_name,
                "path": str(report.path),
                "seconds": round(report.total_seconds, 3),
                "steps": {step: round(seconds, 4) for step, seconds in report.seconds.items()},
            }
            self.stdout.write(json.dumps(facts, ensure_ascii=False))
            return
        self.stdout.write(
            f"Created organization {organization.name}\n"
            f"  id        {organization.pk}\n"
            f"  slug      {organization.slug}\n"
            f"  database  {organization.database_name}\n"
            f"  seconds   {report.total_seconds:.2f} ({_PATHS[report.path]})"
        )


def given_password(*, from_stdin: bool) -> str | None:
    """The password from standard input or the environment; None if there is none."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    # Not a setting of the application: only for this call.
    return os.environ.get("ORG_ADMIN_PASSWORD") or None


def password_for(whom: str, *, from_stdin: bool) -> str:
    """The given password, or one typed twice at the terminal. Raises CommandError."""
    given = given_password(from_stdin=from_stdin)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise CommandError(
            "No password. Pipe it in with --password-stdin, or set ORG_ADMIN_PASSWORD."
        )
    try:
        password = getpass.getpass(f"Password of {whom}: ")
        again = getpass.getpass("Repeat password: ")
    except (EOFError, KeyboardInterrupt) as error:
        raise CommandError("No password was entered. Nothing was created.") from error
    if again != password:
        raise CommandError("The passwords do not match. Nothing was created.")
    return password
