"""Unusable database settings: one clear line, from manage.py and from gunicorn.

Each cause has its sentence in tests/organizations/test_preflight.py.
"""

import os

from tests import processes
from tests.http.server import free_port
from tests.organizations.helpers import Superuser
from tests.plugin import SERVER

from .environment import ROOT

MANAGE = ("manage.py", "list_orgs")
GUNICORN = ("-m", "gunicorn", "-c", "orgmgmt/gunicorn.py", "orgmgmt.wsgi")
PASSWORD = "Th3-Passw0rd-0f-the-R0le"


def output(program: tuple[str, ...], **changes: str) -> str:
    """What the program prints before it gives up, without telling a secret."""
    password = str(SERVER.connection_parameters()["password"])
    started = {**os.environ, "MASTER_DB_PASSWORD": password, "PORT": str(free_port())}
    environment = started | changes
    done = processes.run(*program, cwd=ROOT, env=environment)
    assert done.returncode != 0, "it has started"
    everything = done.stdout + done.stderr
    assert "Traceback" not in everything, everything
    for secret in (password, PASSWORD, environment["SECRET_KEY"], environment["CREDENTIAL_KEYS"]):
        assert secret not in everything, "it tells a secret"
    return everything


def complaint(program: tuple[str, ...], **changes: str) -> str:
    """The line with which the program gives up."""
    # gunicorn's own lines begin with the time in brackets.
    everything = output(program, **changes).splitlines()
    (line,) = (line for line in everything if line and not line.startswith("["))
    assert line.startswith("Cannot use the master database (host "), line
    return line


def test_a_wrong_password_is_said_in_one_line_and_not_shown() -> None:
    line = complaint(MANAGE, MASTER_DB_PASSWORD=PASSWORD)
    assert f"host {SERVER.socket_dir}, port 5432, database master_org_db" in line
    assert "wrong password for the role orgmgmt" in line
    assert "MASTER_DB_PASSWORD" in line


def test_a_database_url_is_described_without_its_password() -> None:
    line = complaint(MANAGE, DATABASE_URL=f"postgres://someone:{PASSWORD}@127.0.0.1:1/some_db")
    assert "host 127.0.0.1, port 1, database some_db" in line
    assert "connection refused" in line


def test_a_master_that_is_not_migrated_stops_gunicorn_with_a_sentence(
    superuser: Superuser,
) -> None:
    superuser.execute("CREATE DATABASE empty_master OWNER orgmgmt")
    try:
        assert "migrate" in output(GUNICORN, MASTER_DB_NAME="empty_master")
    finally:
        superuser.execute("DROP DATABASE empty_master WITH (FORCE)")
