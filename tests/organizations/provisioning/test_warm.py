"""Direct sessions kept open: reset before reuse, or closed."""

import os

import pytest
from pytest_django import Settings

from organizations.errors import ServerUnavailable
from organizations.postgres.sessions import open_session
from organizations.postgres.warm import stock
from tests.conftest import Company
from tests.organizations.helpers import Superuser, interrupt_a_statement


@pytest.fixture(autouse=True)
def _empty_stock() -> None:
    stock.close()


def pid_of_next() -> int:
    with open_session() as session:
        return session.connection.info.backend_pid


def test_a_session_is_used_again() -> None:
    assert pid_of_next() == pid_of_next()


def test_a_reused_session_has_no_lock_or_setting_of_the_last_use() -> None:
    with open_session() as session:
        assert session.try_lock("somebody")
        session.value("SELECT set_config('lock_timeout', '7s', false)")
        pid = session.connection.info.backend_pid
    with open_session() as other, open_session() as elsewhere:
        assert other.connection.info.backend_pid == pid
        assert elsewhere.try_lock("somebody")
        assert other.value("SHOW lock_timeout") == "5s"


def test_one_that_the_server_ended_is_not_handed_out(superuser: Superuser) -> None:
    pid = pid_of_next()
    superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    assert pid_of_next() != pid


def test_a_new_session_on_request_is_none_that_was_open_before() -> None:
    pid = pid_of_next()
    with open_session(new=True) as session:
        assert session.connection.info.backend_pid != pid


def test_one_whose_block_raised_in_a_transaction_is_not_kept() -> None:
    with pytest.raises(KeyError), open_session() as session:
        pid = session.connection.info.backend_pid
        session.connection.execute("BEGIN")
        raise KeyError
    assert pid_of_next() != pid


def test_one_that_broke_is_not_kept(superuser: Superuser) -> None:
    with pytest.raises(ServerUnavailable), open_session() as session:
        pid = session.connection.info.backend_pid
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        session.value("SELECT 1")
    assert pid_of_next() != pid


def test_a_session_interrupted_in_a_statement_can_still_be_used(alpha: Company) -> None:
    """What a block has yet to undo must not fail, and hide the interrupt."""
    role = alpha.organization.role_name
    with (
        pytest.raises(KeyboardInterrupt),
        open_session() as session,
        session.membership(role),
        session.limited(60),
    ):
        interrupt_a_statement(session.connection)


def test_no_more_are_kept_than_there_are_threads(settings: Settings, superuser: Superuser) -> None:
    settings.WEB_THREADS = 1
    with open_session() as first, open_session() as second:
        pids = {each.connection.info.backend_pid for each in (first, second)}
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)"
    for _ in range(100):
        if superuser.execute(query, (list(pids),)).fetchone() == (1,):
            return
    raise AssertionError("both were kept")


def test_a_fork_leaves_them_to_its_parent() -> None:
    pid = pid_of_next()
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if pid_of_next() != pid else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pid_of_next() == pid


def test_other_settings_open_another(settings: Settings) -> None:
    pid = pid_of_next()
    settings.LOCK_TIMEOUT_SECONDS = 3
    assert pid_of_next() != pid
    with open_session() as session:
        assert session.value("SHOW lock_timeout") == "3s"


def test_closing_the_stock_ends_its_sessions(superuser: Superuser) -> None:
    pid = pid_of_next()
    stock.close()
    with pytest.raises(AssertionError):
        for _ in range(200):
            row = superuser.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,))
            assert row.fetchone() is not None
