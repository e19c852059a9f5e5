"""`manage.py org_command NAME -- COMMAND …`: runs a command inside an organization."""

import shlex
from argparse import REMAINDER, ArgumentParser
from contextlib import ExitStack
from typing import Any

from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError

from organizations import lifecycle, tenancy
from organizations.errors import OrganizationError
from organizations.tenancy import trail


class Command(BaseCommand):
    """Runs another command with an organization active."""

    help = (
        "Run any management command, or `shell`, inside an organization: "
        "manage.py org_command 'Acme Corp' -- shell"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the organization's name, in any spelling")
        parser.add_argument("command", help="the command to run")
        parser.add_argument("arguments", nargs=REMAINDER, help="the command's arguments")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            organization = lifecycle.find_organization(options["name"])
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        name, arguments = options["command"], list(options["arguments"])
        if name in _OF_STAFF:
            raise CommandError(_OF_STAFF[name].format(shlex.quote(organization.name)))
        commands = get_commands()
        if name not in commands:
            raise CommandError(f"There is no command {name!r}. `manage.py help` lists them.")
        app = commands[name]
        command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
        with ExitStack() as scope:
            try:
                scope.enter_context(tenancy.override(organization.tenant))
            except OrganizationError as error:
                raise CommandError(str(error)) from error
            # Its arguments may contain anything, even a password.
            trail.record("command.run", facts={"command": name})
            # Its parser is made here, where the alias is registered, since --database's choices
            # are fixed then.
            parser = command.create_parser("manage.py", name)
            takes_database = any(action.dest == "database" for action in parser._actions)
            if takes_database and not any(word.startswith("--database") for word in arguments):
                arguments = ["--database", organization.tenant.alias, *arguments]
            call_command(command, *arguments)


_OF_STAFF = {
    "createsuperuser": "createsuperuser creates platform staff, in the master. For an admin of "
    "this organization: manage.py create_admin {} --email ADDRESS",
    "changepassword": "changepassword is for platform staff, in the master. Admins can set users' "
    "passwords, and users can request a reset link. For an admin who cannot: manage.py "
    "create_admin {} --email ADDRESS --existing",
}
