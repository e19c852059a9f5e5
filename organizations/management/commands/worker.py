"""`manage.py worker`: runs background jobs."""

import os
import signal
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from organizations.background.worker import JobWorker
from organizations.errors import InstallationUnclaimed
from organizations.tasks import QUEUES


class Command(BaseCommand):
    """Any number of workers can run."""

    help = (
        "Run background jobs: sign-ups, e-mails, migrations, upkeep. Keeps spare databases ready."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_stopped = False
        self._parent = 0

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--concurrency",
            type=int,
            default=settings.WORKER_CONCURRENCY,
            metavar="N",
            help="how many jobs at a time (default: WORKER_CONCURRENCY, %(default)s)",
        )
        parser.add_argument(
            "--queues", default="", help=f"only these, comma-separated: {','.join(QUEUES)}"
        )
        parser.add_argument(
            "--with-parent",
            action="store_true",
            help="exit when the parent process exits",
        )
        parser.add_argument("--once", action="store_true", help="exit when no job waits")

    def handle(self, *args: Any, **options: Any) -> None:
        queues = [name.strip() for name in options["queues"].split(",") if name.strip()]
        if unknown := set(queues) - set(QUEUES):
            raise CommandError(
                f"There is no queue {', '.join(sorted(unknown))}. "
                f"The queues are: {', '.join(QUEUES)}."
            )
        if options["concurrency"] < 1:
            raise CommandError("--concurrency must be 1 or more.")
        if options["with_parent"]:
            self._parent = os.getppid()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        worker = JobWorker(
            goes_on=self._goes_on,
            concurrency=options["concurrency"],
            queues=queues,
            once=options["once"],
        )
        try:
            worker.run()
        except InstallationUnclaimed as error:
            raise CommandError(str(error)) from error

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopped = True

    def _goes_on(self) -> bool:
        return not self._is_stopped and self._parent in (0, os.getppid())
