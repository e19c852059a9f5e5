"""`manage.py check`, including the checks that query the server."""

from typing import Any

from django.core.management.commands.check import Command as DjangoCommand

from organizations.postgres import preflight


class Command(DjangoCommand):
    """Django's own, with `--database default` unless databases are named.

    Half of the isolation depends on the server's roles and privileges. If the server cannot be
    used, it says so and runs the other checks.
    """

    def handle(self, *app_labels: Any, **options: Any) -> None:
        if not options["databases"] and not options["list_tags"]:
            if problem := preflight.problem():
                self.stderr.write(f"The server was not checked. {problem}")
            else:
                options["databases"] = ["default"]
        super().handle(*app_labels, **options)
