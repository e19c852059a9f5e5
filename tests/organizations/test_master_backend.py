"""The master's connection: detects a lost connection without a query."""

import pytest
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from django.test import Client

from tests.conftest import Company, Superuser


@pytest.fixture(autouse=True)
def _young() -> None:
    """Open a new connection: one older than CONN_MAX_AGE would be closed anyway."""
    connection.close()


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def last_statement(superuser: Superuser, pid: int) -> str:
    row = superuser.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()
    return str(row[0]) if row else ""


def test_a_live_one_is_reused_without_a_query(superuser: Superuser) -> None:
    pid = backend()
    close_old_connections()
    connection.close_if_health_check_failed()
    assert last_statement(superuser, pid) == "SELECT pg_backend_pid()"
    assert backend() == pid


def test_one_that_the_server_ended_is_reopened(
    superuser: Superuser, alpha: Company, client: Client
) -> None:
    token = alpha.token(client)
    superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (backend(),))
    close_old_connections()  # As at the beginning of a request, which the client leaves out.
    response = client.get("/api/v1/me/", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200, "the end of its connection cost a request"


def test_after_an_error_the_server_is_asked(superuser: Superuser) -> None:
    pid = backend()
    with pytest.raises(DatabaseError), connection.cursor() as cursor:
        cursor.execute("SELECT nothing")
    close_old_connections()
    assert last_statement(superuser, pid) == "SELECT 1"
    assert backend() == pid
