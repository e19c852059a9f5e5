"""`manage.py check`, including the checks that query the server."""

from typing import Any

from django.core.management.commands.check import Command as DjangoCommand

from organizations.provisioning import preflight


class Command(DjangoCommand):
    """Django's own, with `--database default` unless databases are named.

    Half of what the walls between organizations rest on is on the server: a check that leaves it
    out says too little. Where the server cannot be used, that is said and the rest is checked.
    """

    def handle(self, *app_labels: Any, **options: Any) -> None:
        if not options["databases"] and not options["list_tags"]:
            if problem := preflight.problem():
                self.stderr.write(f"The server was not asked. {problem}")
            else:
                options["databases"] = ["default"]
        super().handle(*app_labels, **options)
