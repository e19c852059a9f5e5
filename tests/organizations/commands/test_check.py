"""`manage.py check`: runs the checks of the server without an option."""

import pytest
from django.core.management import call_command

from organizations.postgres.superuser_sql import server_statements
from tests.conftest import Superuser
from tests.plugin import SERVER


def test_check_asks_the_server_unless_databases_are_named(
    superuser: Superuser, capsys: pytest.CaptureFixture[str]
) -> None:
    superuser.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
    try:
        call_command("check")
    finally:
        superuser.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    assert "Every role may connect to the database postgres" in capsys.readouterr().err


def test_check_without_a_server_says_so_and_checks_the_rest(
    superuser: Superuser, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    monkeypatch.setitem(connections["default"].settings_dict, "PORT", "1")
    call_command("check")
    captured = capsys.readouterr()
    assert "The server was not checked. Cannot use the master database" in captured.err
    assert "System check identified no issues" in captured.out


def test_a_web_servers_start_closes_the_master_to_public(superuser: Superuser) -> None:
    """Where the application's role owns it, as it does until server_sql has set up an owner."""
    master = SERVER.connection_parameters()["dbname"]
    superuser.execute("ALTER DATABASE master_org_db OWNER TO orgmgmt")
    try:
        superuser.execute("GRANT CONNECT ON DATABASE master_org_db TO PUBLIC")
        call_command("prepare_start")
        row = superuser.execute(
            "SELECT count(*) FROM pg_database, aclexplode(datacl) AS acl "
            "WHERE datname = %s AND acl.grantee = 0",
            (master,),
        ).fetchone()
    finally:
        for statement in server_statements(
            application_role="orgmgmt", master_database="master_org_db"
        ):
            superuser.execute(statement)
    assert row == (0,)
