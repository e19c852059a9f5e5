#!/usr/bin/env python
"""Django's command line. Prints a sentence instead of a traceback if a setting is wrong."""

import os
import sys

# Commands that need no database, so they also run without one.
WITHOUT_DATABASE = frozenset(
    {
        "check",
        "collectstatic",
        "compilemessages",
        "diffsettings",
        "help",
        "makemessages",
        "makemigrations",
        "server_sql",
        "spectacular",
        "startapp",
        "startproject",
        "test",
        "testserver",
        "version",
    }
)
# Of those, commands that report more with a database: the embedded server is started for them.
BETTER_WITH_DATABASE = frozenset({"check", "makemigrations"})
# Commands that change nothing. Every other command that uses a database is recorded in the audit
# trail; query_orgs records itself.
READ_ONLY = WITHOUT_DATABASE | {
    "findstatic",
    "inspectdb",
    "list_orgs",
    "query_orgs",
    "showmigrations",
    "sqlflush",
    "sqlmigrate",
    "sqlsequencereset",
}


def main() -> None:
    """Run the command in sys.argv. If interrupted, exit with the code that shells expect."""
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader closed the pipe, as `head` does. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _run() -> None:
    """Run the command, with the embedded server if that is configured and needed."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    names_database = any(word.startswith("--database") for word in sys.argv)
    needs_database = command not in WITHOUT_DATABASE or names_database
    if command.startswith("-") or {"--help", "-h"} & set(sys.argv):
        needs_database = False
    try:
        from django.conf import settings

        # The first access to the settings: an error in them is reported below.
        if settings.EMBEDDED_POSTGRES and command in BETTER_WITH_DATABASE:
            needs_database = True
        if not needs_database:
            execute_from_command_line(sys.argv)
            return
        from orgmgmt.runtime import command_recorded, database_ready

        changes = command not in READ_ONLY
        with database_ready(waits=_runs_on(sys.argv)), command_recorded(command, changes=changes):
            execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Configuration: {error}")


def _runs_on(words: list[str]) -> bool:
    """Whether the command runs until it is stopped."""
    options = set(words[2:])
    worker = words[1] == "worker" and "--once" not in options
    return worker or (words[1] == "refill_spares" and "--loop" in options)


if __name__ == "__main__":
    main()
