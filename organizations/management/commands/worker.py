"""`manage.py worker`: runs background jobs."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from organizations.background.worker import JobWorker
from organizations.errors import InstallationUnclaimed
from organizations.management.stopping import UntilStopped
from organizations.tasks import QUEUES


class Command(BaseCommand):
    """Any number of workers can run."""

    help = (
        "Run background jobs: sign-ups, e-mails, migrations, upkeep. Keeps spare databases ready."
    )

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
        worker = JobWorker(
            goes_on=UntilStopped(with_parent=options["with_parent"]).goes_on,
            concurrency=options["concurrency"],
            queues=queues,
            once=options["once"],
        )
        try:
            worker.run()
        except InstallationUnclaimed as error:
            raise CommandError(str(error)) from error
