"""All commands: their help, one form of JSON, and a clean end."""

import io
import json
import signal
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

from tests.conftest import Company, Superuser
from tests.organizations.helpers import REPOSITORY, process_environment


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


def test_a_closed_pipe_is_no_error(alpha: Company) -> None:
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} manage.py list_orgs | true"],
        cwd=REPOSITORY,
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (141, "")


def test_ctrl_c_ends_a_command_without_a_traceback(alpha: Company) -> None:
    with subprocess.Popen(
        [sys.executable, "manage.py", "delete_org", alpha.name],
        cwd=REPOSITORY,
        env=process_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("This deletes the database")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (130, "")


def test_no_database_is_made_that_every_role_may_connect_to(superuser: Superuser) -> None:
    for command in (["test"], ["testserver", "any.json"]):
        with pytest.raises(CommandError, match="creates a database that every role on the server"):
            call_command(*command)
    query = "SELECT count(*) FROM pg_database WHERE datname LIKE 'test%'"
    assert superuser.execute(query.encode()).fetchone() == (0,)
