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
        "createcachetable",
        "diffsettings",
        "help",
        "makemessages",
        "makemigrations",
        "server_sql",
        "spectacular",
        "startapp",
        "startproject",
        "version",
    }
)


def main() -> None:
    """Run the command in sys.argv; start the embedded server for it where that is configured."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    needs_database = not (
        command in WITHOUT_DATABASE and "--database" not in sys.argv or "--help" in sys.argv
    )
    try:
        from django.conf import settings

        if not needs_database or command.startswith("-"):
            execute_from_command_line(sys.argv)
            return
        from orgmgmt.runtime import database_ready

        assert settings.DATABASES  # noqa: S101 - read here, so that a wrong one is said in a sentence
        with database_ready():
            execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Configuration: {error}")


if __name__ == "__main__":
    main()
