"""Base class of backup_orgs, verify_backups and restore_orgs."""

from abc import abstractmethod
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations import lifecycle
from organizations.backups.fleet import Result
from organizations.document import Document, visible
from organizations.errors import OrganizationError
from organizations.models import OrganizationQuerySet


class BackupCommand(BaseCommand):
    """Finds the organizations, does the act for each, and prints each result, or one JSON document.

    document: the name of its list. parallel: the default. what_failed: completes the last sentence.
    even_archived: include archived ones. can_enqueue: whether `enqueue` exists.
    """

    document: str
    parallel: int
    what_failed: str
    even_archived = False
    can_enqueue = True

    @abstractmethod
    def act(self, organizations: OrganizationQuerySet, options: Any) -> Iterator[Result]:
        """Do it."""

    def enqueue(self, organizations: OrganizationQuerySet) -> int:
        """Enqueue jobs instead; returns their number."""
        raise NotImplementedError

    @abstractmethod
    def sentence(self, result: Result) -> str:
        """The line for a success."""

    def facts(self) -> dict[str, Any]:
        """Further facts at the end of the JSON."""
        return {}

    def last_words(self) -> str:
        """The last line of the text."""
        return ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        most = self.parallel
        parser.add_argument("names", nargs="*", metavar="NAME", help="the organizations")
        parser.add_argument("--all", action="store_true", help="all organizations")
        parser.add_argument(
            "--parallel",
            type=int,
            default=most,
            metavar="N",
            help=f"how many at a time (default: {most})",
        )
        if self.can_enqueue:
            parser.add_argument("--enqueue", action="store_true", help="enqueue jobs instead")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["names"]) == options["all"]:
            raise CommandError("Name organizations, or use --all.")
        if options["parallel"] < 1:
            raise CommandError("--parallel must be 1 or more.")
        try:
            is_enqueued = options.get("enqueue", False)
            organizations = lifecycle.reachable_organizations(
                options["names"], even_archived=self.even_archived and not is_enqueued
            )
            if options["all"]:
                organizations = organizations.writable()
            if is_enqueued:
                self.stdout.write(f"{self.enqueue(organizations)} jobs enqueued.")
                return
            self._print(self.act(organizations.order_by("pk"), options), is_json=options["json"])
        except OrganizationError as error:
            raise CommandError(str(error)) from error

    def _print(self, results: Iterator[Result], *, is_json: bool) -> None:
        document = Document(self.stdout.write, self.document) if is_json else None
        count = failed = 0
        for result in results:
            count, failed = count + 1, failed + bool(result.error)
            if document is not None:
                document.add(asdict(result))
            elif result.error:
                self.stderr.write(f"{result.name}: {visible(result.error)}")
            else:
                self.stdout.write(f"{result.name}: {self.sentence(result)}")
        if document is not None:
            document.end({"failed": failed, **self.facts()})
        elif words := self.last_words():
            self.stdout.write(words)
        if failed:
            raise CommandError(f"{failed} of {count} {self.what_failed}.")
