"""`manage.py query_orgs SQL [ORG…]`: asks organizations' databases, read-only."""

from argparse import ArgumentParser
from collections import Counter
from contextlib import closing
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from organizations import lifecycle
from organizations.errors import OrganizationError
from organizations.querying import fleet, output
from organizations.querying.reading import Query

SOME_FAILED = 2
_LONGEST_SECONDS = 86_400


class Command(BaseCommand):
    """A failure does not affect the others."""

    help = (
        "Run one SELECT in the organizations' databases, each as the organization's own role in a "
        "read-only transaction: query_orgs 'SELECT count(*) FROM users' --all. Rows come as each "
        "organization answers, in no order. Suspended ones are asked too. Exit code 2: some failed."
    )

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(*args, **kwargs)
        # Options may come between the SQL and the names.
        parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("sql", metavar="SQL", help="one statement that returns rows")
        add("names", nargs="*", metavar="ORG", help="the organizations to ask")
        add("--all", action="store_true", help="ask all")
        add(
            "--parallel",
            type=int,
            default=0,
            metavar="N",
            help="threads (default: twice the cores)",
        )
        add("--limit", type=int, default=1_000, metavar="ROWS", help="of each (default: 1000)")
        add(
            "--timeout",
            type=int,
            default=settings.STATEMENT_TIMEOUT_SECONDS,
            metavar="SECONDS",
            help="of each (default: STATEMENT_TIMEOUT_SECONDS)",
        )
        add("--format", choices=("table", "csv", "json"), default="table")
        add("--json", action="store_const", const="json", dest="format", help="as --format json")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["parallel"] < 0 or options["limit"] < 1:
            raise CommandError("--parallel and --limit must be 1 or more.")
        if not 0 < options["timeout"] <= _LONGEST_SECONDS:
            raise CommandError(f"--timeout must be from 1 to {_LONGEST_SECONDS}.")
        if options["all"] == bool(options["names"]):
            raise CommandError("Name the organizations to ask, or ask --all.")
        if not _is_utf8(options["sql"]):
            raise CommandError("The SQL is not valid UTF-8.")
        counts: Counter[str] = Counter()
        query = Query(options["sql"], options["limit"], options["timeout"])
        try:
            chosen = [lifecycle.find_usable(name).pk for name in options["names"]]
            answers = fleet.ask(query, chosen=chosen or None, parallel=options["parallel"])
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        view = self._view(options["format"])
        with closing(answers):
            for answer in answers:
                output.count(counts, answer)
                view.show(answer)
        view.end(counts)
        if counts["failed"]:
            raise CommandError(
                f"{counts['failed']} of {counts['organizations']} organizations failed.",
                returncode=SOME_FAILED,
            )

    def _view(self, form: str) -> output.View:
        if form == "json":
            return output.Json(self.stdout.write)
        kind = output.Csv if form == "csv" else output.Table
        return kind(self.stdout.write, self.stderr.write)


def _is_utf8(text: str) -> bool:
    """False for bytes of the command line that Python could not decode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
