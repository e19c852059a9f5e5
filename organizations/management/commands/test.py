"""`manage.py test`: refused, since the tests run with pytest."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Replaces Django's, whose runner creates a database that every role may connect to."""

    help = "Refused: all tests, also those of your own apps, run with pytest. See docs/testing.md."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("words", nargs="*", metavar="…")

    def run_from_argv(self, argv: list[str]) -> None:
        # Django's options, whichever they are, get the same answer.
        is_help = {"-h", "--help"} & set(argv)
        super().run_from_argv(argv if is_help else argv[:2])

    def handle(self, *args: Any, **options: Any) -> None:
        raise CommandError(
            "Django's test runner creates a database that every role on the server may connect to, "
            "and knows no organizations. Run make test, or one file: .venv/bin/python -m pytest "
            "tests/…"
        )
