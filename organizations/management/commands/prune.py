"""`manage.py prune [ORG…]`: deletes expired rows, old backups, and deleted organizations."""

import shlex
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from accounts.expiry import prune_sessions
from organizations import lifecycle, tenancy
from organizations.background import enqueueing, exports, pruning
from organizations.errors import OrganizationError
from organizations.migrating.fleet import by_pages, parallel
from organizations.models import Organization
from organizations.tenancy import registry

_PAGE = 500


class Command(BaseCommand):
    """The same as the nightly job `clean_up`; a failure does not affect the others."""

    help = (
        "Delete what expired: logins, exports, finished jobs, counters, old audit entries, backups "
        "that no period keeps; and, once due, deleted and read-only organizations, and what "
        "restores kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "names", nargs="*", help="only in these organizations (default: all, and the master)"
        )
        parser.add_argument(
            "--parallel",
            type=int,
            default=0,
            metavar="N",
            help="how many at a time (default: twice the cores)",
        )
        parser.add_argument("--enqueue", action="store_true", help="enqueue jobs instead")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["parallel"] < 0:
            raise CommandError("--parallel must be 1 or more.")
        try:
            organizations = lifecycle.reachable_organizations(options["names"])
            if options["enqueue"]:
                self._enqueue(organizations, with_master=not options["names"])
                return
            left: list[str] = []
            if options["names"]:
                exports.prune(organizations.values_list("key", flat=True))
            else:
                left = pruning.prune()
            number = parallel(options["parallel"])
        except (OrganizationError, DatabaseError) as error:
            raise CommandError(f"{type(error).__name__}: {error}") from error
        failed: list[tuple[Organization, Exception]] = []
        waiting = by_pages(organizations, ("id", "name", "slug", "key"), _PAGE)
        try:
            with ThreadPoolExecutor(number, thread_name_prefix="prune") as threads:
                while page := list(islice(waiting, _PAGE)):
                    failed += filter(None, threads.map(_prune, page))
        except DatabaseError as error:  # The master, between two pages.
            self._tell(failed, left)
            raise CommandError(f"{type(error).__name__}: {error}") from error
        self._conclude(failed, left)

    def _enqueue(self, organizations: Any, *, with_master: bool) -> None:
        if with_master:
            enqueueing.platform_job("clean_up")
            self.stdout.write("Enqueued. A job for each organization follows.")
        else:
            self.stdout.write(f"{enqueueing.clean_up(organizations)} jobs enqueued.")

    def _tell(self, failed: list[tuple[Organization, Exception]], left: list[str]) -> None:
        for what in left:
            self.stderr.write(f"Not removed: {what}. The log has the reason.")
        for organization, error in failed:
            self.stderr.write(f"{organization.slug}: {type(error).__name__}: {error}")

    def _conclude(self, failed: list[tuple[Organization, Exception]], left: list[str]) -> None:
        self._tell(failed, left)
        if failed:
            names = " ".join(shlex.quote(organization.name) for organization, _ in failed)
            raise CommandError(
                f"{len(failed)} failed. Fix the cause, then run: manage.py prune {names}"
            )
        if left:
            raise CommandError("Not all was removed; the next run tries again.")
        self.stdout.write("Expired rows deleted.")


def _prune(organization: Organization) -> tuple[Organization, Exception] | None:
    try:
        with tenancy.override(organization.tenant):
            prune_sessions()
    except Exception as error:
        return organization, error
    finally:
        registry.reap()
        # This thread's own connections: no other thread can close them.
        connections.close_all()
    return None
