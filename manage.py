#!/usr/bin/env python
"""Django's command line, with a sentence instead of a traceback where a setting is wrong."""

import os
import sys

# They ask no database, so they run where there is none.
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
# Of those, the ones that say more where there is one: the embedded server is started for them.
ASK_WHERE_THERE_IS_ONE = frozenset({"check", "makemigrations"})
# They change nothing; every other command that meets a database is an entry of the audit trail.
READ_ONLY = WITHOUT_DATABASE | {
    "findstatic",
    "inspectdb",
    "list_orgs",
    "showmigrations",
    "sqlflush",
    "sqlmigrate",
    "sqlsequencereset",
}


def main() -> None:
    """Run the command in sys.argv, and end as a program should that is interrupted."""
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Who reads has read enough, as `head` does. Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _run() -> None:
    """Start the embedded server for the command where that is configured."""
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

        # The first look at the settings: what is wrong in them is said below.
        if settings.EMBEDDED_POSTGRES and command in ASK_WHERE_THERE_IS_ONE:
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
    """Whether the command goes on until it is told to end."""
    options = set(words[2:])
    worker = words[1] == "worker" and "--once" not in options
    return worker or (words[1] == "refill_spares" and "--loop" in options)


if __name__ == "__main__":
    main()
