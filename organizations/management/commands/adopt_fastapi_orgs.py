"""`manage.py adopt_fastapi_orgs [NAME…]`: takes over the FastAPI edition's organizations."""

import sys
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations.document import Document, visible
from organizations.errors import OrganizationError
from organizations.first_edition.planning import Plan, plan
from organizations.first_edition.source import Source
from organizations.first_edition.taking_over import adopt
from organizations.models import Organization
from organizations.postgres import installation

SOME_FAILED = 2
_LONGEST_URL = 10_000


class Command(BaseCommand):
    """Lists all, and begins only if nothing prevents one of them."""

    help = (
        "Take over organizations from the FastAPI edition, each with its users, into new "
        "databases. Without --yes it only lists what would be done and what prevents it. The "
        "FastAPI edition's databases are only read. Run again, it does what is left. Exit code 1: "
        "something prevents it, and nothing was done; 2: some failed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("names", nargs="*", metavar="NAME", help="only these, exactly as written there")
        add(
            "--leave-out",
            action="append",
            default=[],
            metavar="NAME",
            help="not this one; can be repeated",
        )
        add(
            "--url-file",
            required=True,
            metavar="FILE",
            help="a file with the URL of the FastAPI edition's master, "
            "postgresql://USER:PASSWORD@HOST/master_org_db; - for standard input",
        )
        add("--yes", action="store_true", help="do it")
        add("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            installation.require()
            old = Source(_url(options["url_file"]))
            plans = plan(old, names=options["names"], leave_out=options["leave_out"])
        except OrganizationError as error:
            raise CommandError(str(error)) from error
        view = _Json(self) if options["json"] else _Text(self)
        is_prevented = any(each.obstacles for each in plans)
        begins = options["yes"] and not is_prevented
        for each in plans:
            if not (begins and each.is_due):
                view.show(each)
        if begins:
            for each in filter(lambda each: each.is_due, plans):
                try:
                    view.done(each, adopt(old, each.old))
                except OrganizationError as error:
                    view.failed(each, error)
        view.end()
        if is_prevented:
            raise CommandError("Nothing was done.")
        if failed := view.counts["failed"]:
            raise CommandError(f"{failed} were not adopted.", returncode=SOME_FAILED)


def _url(file: str) -> str:
    """Never an argument, which every user of the machine can read."""
    try:
        if file == "-":
            return sys.stdin.read(_LONGEST_URL).strip()
        with Path(file).open(encoding="utf-8") as opened:
            return opened.read(_LONGEST_URL).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read ({type(error).__name__}).") from error


class _Text:
    """Lines for people. Names and addresses are strangers' text."""

    def __init__(self, command: BaseCommand) -> None:
        self.counts: Counter[str] = Counter()
        self._out, self._err = command.stdout.write, command.stderr.write

    def show(self, each: Plan) -> None:
        """What would be done, or was done before."""
        name = visible(each.old.name)
        if each.adopted is not None:
            self.counts["adopted before"] += 1
            self._out(f"{name}: adopted before, as {_named(each.adopted)}")
        elif each.obstacles:
            self.counts["prevented"] += 1
            self._out(f"{name} (id {each.old.id}) cannot be adopted:")
            for obstacle in each.obstacles:
                self._out(f"  {visible(obstacle)}")
        else:
            self.counts["to adopt"] += 1
            self._out(f"{name}: {_people(each)} in {visible(each.old.database)}")

    def done(self, each: Plan, made: Organization) -> None:
        """What was done."""
        self.counts["adopted"] += 1
        self._out(f"{visible(each.old.name)}: {_people(each)} adopted, as {_named(made)}")

    def failed(self, each: Plan, error: OrganizationError) -> None:
        """What was not done; the others go on."""
        self.counts["failed"] += 1
        self._err(f"{visible(each.old.name)}: {visible(str(error))}")

    def end(self) -> None:
        """The totals."""
        self._out(", ".join(f"{count} {what}" for what, count in self.counts.items()) or "none")
        if self.counts["to adopt"] and not self.counts["prevented"]:
            self._out("Nothing was done yet: --yes adopts them.")


class _Json(_Text):
    """One document."""

    def __init__(self, command: BaseCommand) -> None:
        super().__init__(command)
        self._document = Document(command.stdout.write, "organizations")

    def show(self, each: Plan) -> None:
        state = "prevented" if each.obstacles else "to adopt"
        self._add(each, state if each.adopted is None else "adopted before", each.adopted)

    def done(self, each: Plan, made: Organization) -> None:
        self._add(each, "adopted", made)

    def failed(self, each: Plan, error: OrganizationError) -> None:
        self._add(each, "failed", error=str(error))

    def _add(
        self, each: Plan, state: str, made: Organization | None = None, *, error: str = ""
    ) -> None:
        self.counts[state] += 1
        facts = {
            "old_id": each.old.id,
            "name": each.old.name,
            "old_database": each.old.database,
            # Not looked at again once it was adopted.
            "users": None if state == "adopted before" else each.users,
            "admins": None if state == "adopted before" else each.admins,
            "state": state,
            "obstacles": each.obstacles,
            "id": made and made.pk,
            "database": made and made.database_name,
            "error": error,
        }
        self._document.add(facts)

    def end(self) -> None:
        self._document.end({"counts": dict(self.counts)})


def _people(each: Plan) -> str:
    return f"{each.users} users ({each.admins} active admins)"


def _named(made: Organization) -> str:
    return f"organization {made.pk}, database {made.database_name}"
