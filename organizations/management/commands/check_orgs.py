"""`manage.py check_orgs [ORG…]`: compares the master with the server, and repairs."""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from organizations.document import Document
from organizations.errors import OrganizationError, OrganizationNotFound
from organizations.inspecting import checking
from organizations.inspecting.checking import Finding
from organizations.inspecting.verdicts import Kind, Problem
from organizations.models import Organization
from organizations.provisioning import code

# Most problems of one kind in the table; --json has all.
_MOST_OF_A_KIND = 20
Write = Callable[[str], object]
_ROW = "{:>6}  {:<12}  {:<34}  {:>9}  {:>11}  {:<9}  {}"


class Command(BaseCommand):
    """Reads the master and the server's catalogs; --fix repairs what is safe for data."""

    help = (
        "Compare the master with its server: missing and orphan databases and roles, owners, "
        "privileges, role attributes and memberships, the recorded migrations against the code's "
        "(migrate_orgs --verify asks the databases themselves), and the newest backups. Ignores "
        "what is being worked on. Exit code 1: problems remain."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="ORG", help="only these (default: all)")
        parser.add_argument(
            "--fix",
            action="store_true",
            help="repair owners, privileges, attributes and memberships, reconcile, and drop roles "
            "that own nothing; never drops an organization's database",
        )
        parser.add_argument(
            "--all", action="store_true", help="also list organizations without a problem"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        lists = options["all"] or bool(options["names"])
        view = self._view(lists=lists, as_json=options["json"])
        counts: Counter[str] = Counter()
        try:
            ids = [_find(name) for name in options["names"]] or None
            for finding in checking.check(ids, fix=options["fix"], sizes=lists):
                _count(counts, finding)
                view.show(finding)
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        view.end(counts)
        if counts["problems"]:
            raise CommandError(f"{_number(counts['problems'], 'problem')} left.")

    def _view(self, *, lists: bool, as_json: bool) -> "_Json | _Lines":
        if as_json:
            return _Json(self.stdout.write, lists=lists)
        if self.stdout.isatty():
            return _Terminal(self.stdout.write, cast(IO[str], self.stdout._out), lists=lists)
        return _Lines(self.stdout.write, lists=lists)


def _find(name: str) -> int:
    organization = Organization.objects.live().known_as(name).first()
    if organization is None:
        raise OrganizationNotFound(name)
    return organization.pk


def _count(counts: "Counter[str]", finding: Finding) -> None:
    counts["problems"] += len(finding.problems)
    counts["fixed"] += len(finding.fixed)
    if finding.seen is not None:
        counts["organizations"] += 1
        counts["connections"] += finding.seen.connections
        counts["bytes"] += finding.size_bytes or 0


class _Lines:
    """Output as lines: one per problem, and one per organization if they are listed."""

    def __init__(self, write: Write, *, lists: bool) -> None:
        self._write = write
        self._lists = lists
        if lists:
            self._write(
                _ROW.format("id", "status", "database", "size", "connections", "schema", "name")
            )

    def show(self, finding: Finding) -> None:
        seen = finding.seen
        if seen is not None and self._lists:
            size = "" if finding.size_bytes is None else decimal(finding.size_bytes)
            schema = "current" if seen.fingerprint == code.current().fingerprint else "other"
            facts = (seen.organization_id, seen.status, seen.database, size, seen.connections)
            clone = "" if seen.cloned_from is None else f" (clone of {seen.cloned_from})"
            self._write(_ROW.format(*facts, schema, f"{seen.name}{clone}"))
        for problem in finding.fixed:
            self.problem(finding, problem, "fixed")
        for problem in finding.problems:
            self.problem(finding, problem, problem.remedy)

    def problem(self, finding: Finding, problem: Problem, remedy: str) -> None:
        self._write(f"{finding.subject}: {problem.what} ({remedy})")

    def end(self, counts: "Counter[str]") -> None:
        said = [
            _number(counts["organizations"], "organization"),
            _number(counts["connections"], "connection"),
            *([decimal(counts["bytes"])] if self._lists else []),
            *([f"{counts['fixed']} fixed"] if counts["fixed"] else []),
            _number(counts["problems"], "problem"),
        ]
        self._write(", ".join(said))


class _Terminal(_Lines):
    """Output as a table of problems at the end; only the first of each kind if there are many."""

    def __init__(self, write: Write, file: IO[str], *, lists: bool) -> None:
        super().__init__(write, lists=lists)
        self._console = Console(file=file)
        self._table = Table("", "problem", "what to do")
        self._shown: Counter[Kind] = Counter()

    def problem(self, finding: Finding, problem: Problem, remedy: str) -> None:
        self._shown[problem.kind] += 1
        if self._shown[problem.kind] <= _MOST_OF_A_KIND:
            # As text: a name can contain rich's markup.
            self._table.add_row(Text(finding.subject), Text(problem.what), Text(remedy))

    def end(self, counts: "Counter[str]") -> None:
        for kind, number in self._shown.items():
            if number > _MOST_OF_A_KIND:
                self._table.add_row("…", f"{number - _MOST_OF_A_KIND} more: {kind}", "see --json")
        if self._shown:
            self._console.print(self._table)
        super().end(counts)


class _Json:
    """Output as JSON, streamed. organization is null for what belongs to none."""

    def __init__(self, write: Write, *, lists: bool) -> None:
        self._document = Document(write, "findings")
        self._lists = lists

    def show(self, finding: Finding) -> None:
        seen = finding.seen
        problems = [_facts(problem, fixed=True) for problem in finding.fixed]
        problems += [_facts(problem, fixed=False) for problem in finding.problems]
        if not problems and not self._lists:
            return
        facts = {
            "name": finding.subject,
            "organization": seen
            and {
                "id": seen.organization_id,
                "slug": seen.slug,
                "status": seen.status,
                "database": seen.database,
                "role": seen.role,
                "fingerprint": seen.fingerprint,
                "cloned_from": seen.cloned_from,
                "is_current": seen.fingerprint == code.current().fingerprint,
                "size_bytes": finding.size_bytes,
                "connections": seen.connections,
            },
            "problems": problems,
        }
        self._document.add(facts)

    def end(self, counts: "Counter[str]") -> None:
        names = ("organizations", "connections", "problems", "fixed")
        self._document.end({"counts": {name: counts[name] for name in names}})


def _facts(problem: Problem, *, fixed: bool) -> dict[str, object]:
    remedy = {} if fixed else {"remedy": problem.remedy}
    return {"kind": problem.kind.value, "what": problem.what, "fixed": fixed, **remedy}


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
