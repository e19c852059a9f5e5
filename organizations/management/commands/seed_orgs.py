"""`manage.py seed_orgs N`: creates test organizations, for development."""

import itertools
import logging
import secrets
import shlex
import threading
import time
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor, wait
from typing import IO, Any, cast

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.models import IntegerField, Max
from django.db.models.functions import Cast, Substr
from rich.console import Console

from accounts.services import hash_password
from organizations import lifecycle
from organizations.errors import OrganizationError, OrganizationExists
from organizations.management.acts import sentence
from organizations.migrating.fleet import parallel
from organizations.migrating.progress import bar_on, move
from organizations.models import Organization
from organizations.tenancy import registry
from organizations.validators import SignUp, validate_sign_up

from .create_org import given_password

logger = logging.getLogger(__name__)

EMAIL = "admin@seed.example"
_NAME = "Seed {:06}"
_MOST_FAILURES = 10
_TICK_SECONDS = 0.1


class Command(BaseCommand):
    """Ordinary sign-ups, in parallel; the admins share one password and its hash."""

    help = (
        "For development, with DEBUG on: create N organizations, named Seed 000001 and so on, each "
        "with an admin. Exit code 1: some failed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("number", type=int, metavar="N", help="how many")
        parser.add_argument(
            "--parallel", type=int, default=0, help="threads (default: twice the cores)"
        )
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="read the admins' password from standard input (or set ORG_ADMIN_PASSWORD); "
            "otherwise one is generated and printed",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("seed_orgs is for development: it needs DEBUG on.")
        if options["number"] < 1 or options["parallel"] < 0:
            raise CommandError("N and --parallel must be 1 or more.")
        given = given_password(from_stdin=options["password_stdin"])
        password = given or secrets.token_urlsafe(12)
        try:
            validate_sign_up(SignUp(_NAME.format(1), EMAIL, password))
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        seeds = _Seeds(options["number"], password)
        began = time.monotonic()
        try:
            self._grow(seeds, parallel(options["parallel"]))
        finally:
            self._say(seeds, time.monotonic() - began, password="" if given else password)
        if seeds.failures:
            reasons = " ".join(sorted(set(seeds.failures)))
            raise CommandError(f"{len(seeds.failures)} failed: {reasons}")

    def _grow(self, seeds: "_Seeds", threads: int) -> None:
        console = Console(file=cast(IO[str], self.stdout._out))
        bar = bar_on(console, disable=not self.stdout.isatty())
        task = bar.add_task("", total=seeds.number, rate="")
        with bar, ThreadPoolExecutor(threads) as crew:
            left = {crew.submit(seeds.work) for _ in range(threads)}
            try:
                while left:
                    left = wait(left, timeout=_TICK_SECONDS).not_done
                    move(bar, task, seeds.made)
            finally:
                seeds.stopping.set()  # Lets running ones finish.

    def _say(self, seeds: "_Seeds", seconds: float, *, password: str) -> None:
        if not seeds.made:
            return
        self.stdout.write(
            f"{seeds.made} created in {seconds:.1f} s ({seeds.made / seconds:.1f}/s)."
        )
        self.stdout.write(
            f"Log in at /api/login/: organization {shlex.quote(seeds.name)}, e-mail {EMAIL}, "
            f"password {password or '(the one you gave)'}"
        )


class _Seeds:
    """A number of organizations to create, by as many threads as call `work`."""

    def __init__(self, number: int, password: str) -> None:
        self.number = number
        self.stopping = threading.Event()
        self.made = 0
        self.name = ""
        self.failures: list[str] = []
        self._password = password
        self._hash = hash_password(password)
        self._names = map(_NAME.format, itertools.count(_last() + 1))
        self._begun = 0
        self._lock = threading.Lock()

    def work(self) -> None:
        """Create one after the other, until all are started."""
        try:
            while not self.stopping.is_set():
                with self._lock:
                    if self._begun == self.number:
                        return
                    self._begun += 1
                self._make_one()
        finally:
            connections.close_all()

    def _make_one(self) -> None:
        while True:
            with self._lock:
                name = next(self._names)
            try:
                created = lifecycle.create_organization(
                    name=name, email=EMAIL, password=self._password, password_hash=self._hash
                )
            except OrganizationExists:
                continue  # Another process seeds too.
            except Exception as error:
                logger.warning(
                    "organization not created", extra={"name_wanted": name}, exc_info=error
                )
                self._failed(error)
                return
            # Also closes its connection.
            registry.forget(created.organization.tenant.alias)
            with self._lock:
                self.made += 1
                self.name = self.name or name
            return

    def _failed(self, error: Exception) -> None:
        is_ours = isinstance(error, OrganizationError)
        with self._lock:
            self.failures.append(str(error) if is_ours else type(error).__name__)
            if len(self.failures) == _MOST_FAILURES:
                self.stopping.set()


def _last() -> int:
    """The highest number in use; 0: none."""
    seeded = Organization.objects.live().filter(name__regex=r"^Seed \d{6,9}$")
    number = Cast(Substr("name", len("Seed ") + 1), IntegerField())
    return int(seeded.aggregate(last=Max(number))["last"] or 0)
