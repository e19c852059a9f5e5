"""All commands: their help, one form of JSON, and a clean end."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

import manage as program
from tests.conftest import Company, Superuser
from tests.organizations.helpers import Fork


def test_every_command_has_a_help_that_can_be_printed() -> None:
    for name, app in get_commands().items():
        parser = load_command_class(app, name).create_parser("manage.py", name)
        assert f"manage.py {name}" in parser.format_help()


def test_json_is_one_object_in_every_command(alpha: Company) -> None:
    for words in (
        ["list_orgs"],
        ["query_orgs", "SELECT 1"],
        ["check_orgs", "--all"],
        ["migrate_orgs", "--parallel", "1"],
        ["migrate_orgs", "--plan"],
        ["migrate_orgs", "--enqueue"],
    ):
        out = io.StringIO()
        name, *options = words
        call_command(name, *options, alpha.name, "--json", stdout=out)
        assert isinstance(json.loads(out.getvalue()), dict), words


def test_a_closed_pipe_is_no_error(alpha: Company, tmp_path: Path) -> None:
    def list_into_it() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        sys.stdout = os.fdopen(writing, "w")
        sys.stderr = (tmp_path / "errors").open("w", buffering=1)
        sys.argv = ["manage.py", "list_orgs"]
        try:
            program.main()
        finally:
            sys.stdout.flush()  # As Python does at its end.

    with Fork(list_into_it) as child:
        assert child.wait() == 141
    assert (tmp_path / "errors").read_text() == ""


def test_no_database_is_made_that_every_role_may_connect_to(superuser: Superuser) -> None:
    for command in (["test"], ["testserver", "any.json"]):
        with pytest.raises(CommandError, match="creates a database that every role on the server"):
            call_command(*command)
    query = "SELECT count(*) FROM pg_database WHERE datname LIKE 'test%'"
    assert superuser.execute(query.encode()).fetchone() == (0,)
