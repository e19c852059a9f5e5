"""What all commands have in common: their help, one form of JSON, and an orderly end."""

import io
import json
import signal
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

from tests.conftest import Company, Superuser
from tests.organizations.helpers import REPOSITORY, manage, process_environment


@pytest.mark.parametrize("name", sorted(get_commands()))
def test_every_command_has_a_help_that_can_be_printed(name: str) -> None:
    command = load_command_class(get_commands()[name], name)
    assert f"manage.py {name}" in command.create_parser("manage.py", name).format_help()


@pytest.mark.parametrize(
    "words",
    [
        ["list_orgs"],
        ["check_orgs", "--all"],
        ["migrate_orgs", "--parallel", "1"],
        ["migrate_orgs", "--plan"],
        ["migrate_orgs", "--enqueue"],
    ],
    ids=" ".join,
)
def test_json_is_one_object_in_every_command(words: list[str], alpha: Company) -> None:
    out = io.StringIO()
    name, *options = words
    call_command(name, alpha.name, *options, "--json", stdout=out)
    assert isinstance(json.loads(out.getvalue()), dict)


def test_a_reader_who_has_read_enough_is_no_error(alpha: Company) -> None:
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


@pytest.mark.parametrize(
    "command", [["test", "--keepdb"], ["testserver", "any.json"]], ids=" ".join
)
def test_no_database_is_made_that_every_role_may_connect_to(
    command: list[str], superuser: Superuser
) -> None:
    ended = manage(*command)
    assert ended.returncode == 1
    assert "creates a database that every role on the server may connect to" in ended.stderr
    query = "SELECT count(*) FROM pg_database WHERE datname LIKE 'test%'"
    assert superuser.execute(query.encode()).fetchone() == (0,)
    with pytest.raises(CommandError):
        call_command(command[0])
