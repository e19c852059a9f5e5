"""`manage.py check_isolation`: tests the isolation between organizations."""

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from organizations.document import Document
from organizations.errors import OrganizationError
from organizations.isolation import runner, stage
from organizations.isolation.outcome import Result
from organizations.isolation.rows import RowsNotMade
from organizations.management.interrupts import terminated_as_interrupted

_BUSY = "Another check_isolation is running on this installation. Wait for it."


class Command(BaseCommand):
    """Tests the isolation of this installation, then removes the two organizations it made."""

    help = (
        "Create two throw-away organizations, attack one from the other in every known way, print "
        "the results, and remove them. Exit code 1: an attack succeeded or proved nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.add_argument("--all", action="store_true", help="also list each refused attempt")
        parser.add_argument(
            "--sample",
            type=_positive,
            metavar="N",
            help="try to connect to N random other databases instead of all; privileges are read "
            "for all in any case",
        )
        parser.add_argument(
            "--clean", action="store_true", help="only remove what a killed run left"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with terminated_as_interrupted():
                if options["clean"]:
                    removed = stage.clean()
                    self.stdout.write(f"{len(removed)} removed.")
                    return
                with stage.staged(sample=options["sample"]) as set_up:
                    results = list(self._shown(runner.run(set_up), as_json=options["json"]))
        except stage.AnotherRun as error:
            raise CommandError(_BUSY) from error
        except RowsNotMade as error:
            raise CommandError(str(error).strip()) from error
        except KeyboardInterrupt:
            self.stderr.write("Interrupted. What was made has been removed.")
            sys.exit(130)
        except OrganizationError as error:
            raise CommandError(f"{error} Remove leftovers with --clean.") from error
        if not options["json"]:
            self._table(results, everything=options["all"])
        if any(result.is_failure for result in results):
            sys.exit(1)

    def _shown(self, results: Iterable[Result], *, as_json: bool) -> Iterator[Result]:
        document = Document(self.stdout.write, "attempts") if as_json else None
        counts: Counter[str] = Counter()
        for result in results:
            counts[result.outcome] += 1
            if document is not None:
                facts = {
                    "family": result.family,
                    "attempt": result.attempt,
                    "subject": result.subject,
                    "outcome": result.outcome,
                    "how": result.how,
                }
                document.add(facts)
            yield result
        if document is not None:
            document.end({"counts": counts})

    def _table(self, results: list[Result], *, everything: bool) -> None:
        lines = [("family", "attempt", "outcome"), *_lines(results, everything=everything)]
        widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
        for family, attempt, outcome in lines:
            self.stdout.write(f"{family:<{widths[0]}}  {attempt:<{widths[1]}}  {outcome}")
        count = Counter(result.outcome for result in results)
        self.stdout.write(
            f"\n{len(results)} attempts, {count['refused']} refused, {count['crossed']} crossed, "
            f"{count['broken']} broken, {count['visible']} visible by nature"
        )


def _lines(results: list[Result], *, everything: bool) -> Iterator[tuple[str, str, str]]:
    """A line per attempt, with how many were refused; each failure has its own line."""
    by_attempt: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_attempt.setdefault((result.family, result.attempt), []).append(result)
    for (family, attempt), found in by_attempt.items():
        good = [result for result in found if not result.is_failure]
        if good and not everything:
            hows = Counter(result.how for result in good)
            how = hows.most_common(1)[0][0] + (" …" if len(hows) > 1 else "")
            counted = f" {len(good)} of {len(found)}" if found[0].subject else ""
            yield family, attempt, f"{good[0].outcome}{counted}: {how}"
        for result in found:
            if result.is_failure or everything:
                subject = f": {result.subject}" if result.subject else ""
                word = result.outcome.upper() if result.is_failure else result.outcome
                yield family, f"{attempt}{subject}", f"{word}: {result.how}"


def _positive(raw: str) -> int:
    if not raw.isascii() or not raw.isdigit() or int(raw) < 1:
        raise ArgumentTypeError(f"{raw} is not a number of 1 or more")
    return int(raw)
