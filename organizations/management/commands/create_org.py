"""`manage.py create_org NAME --email E`: creates an organization."""

import getpass
import json
import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from organizations import services
from organizations.errors import OrganizationError
from organizations.provisioning.report import Path

_PATHS = {
    Path.PLAIN: "by its migrations",
    Path.TEMPLATE: "copied from the template",
    Path.SPARE: "a spare database",
}


class Command(BaseCommand):
    """The same sign-up as POST /org/create, from a terminal."""

    help = "Create an organization: its role, its database, its tables and its first admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the organization's name, in any script")
        parser.add_argument("--email", required=True, help="the first admin's address")
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="read the admin's password from standard input (or set ORG_ADMIN_PASSWORD); "
            "without either it is asked for",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        password = password_for("the first admin", from_stdin=options["password_stdin"])
        try:
            created = services.create_organization(
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
    """The line on standard input, or what the environment says; None: nobody gave one."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    # Not a setting of the application: a value for this one call.
    return os.environ.get("ORG_ADMIN_PASSWORD") or None


def password_for(whom: str, *, from_stdin: bool) -> str:
    """As given, or as typed twice at the terminal. Raises CommandError."""
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
        raise CommandError("No password was typed. Nothing was created.") from error
    if again != password:
        raise CommandError("The two passwords differ. Nothing was created.")
    return password


def sentence(error: ValidationError) -> str:
    """What is wrong with each field, on one line."""
    return "; ".join(
        f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items()
    )
