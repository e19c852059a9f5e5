"""Commands whose database goes away: they end with one sentence, not with a traceback."""

import psycopg
from pytest_django import Settings

from tests.organizations.helpers import Superuser, manage_here, wait_for
from tests.plugin import SERVER


def test_a_command_whose_connection_is_cut_ends_with_a_sentence(superuser: Superuser) -> None:
    waiting = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = 'master_org_db'"
    )
    parameters = SERVER.superuser_parameters("master_org_db")
    with psycopg.connect(**parameters) as blocker:  # type: ignore[arg-type]
        blocker.execute("LOCK TABLE organizations IN ACCESS EXCLUSIVE MODE")
        done = manage_here("migrate_orgs", meanwhile=lambda: wait_for(superuser, waiting))
        blocker.rollback()
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip().endswith("The command did not finish. Try again.")
    assert "database unavailable" in done.stderr, "the log says why"


def test_a_command_gives_up_waiting_for_a_lock(superuser: Superuser, settings: Settings) -> None:
    settings.LOCK_TIMEOUT_SECONDS = 0.2
    parameters = SERVER.superuser_parameters("master_org_db")
    with psycopg.connect(**parameters) as blocker:  # type: ignore[arg-type]
        blocker.execute("LOCK TABLE organizations IN ACCESS EXCLUSIVE MODE")
        done = manage_here("list_orgs")
        blocker.rollback()
    assert done.returncode == 1, done.stderr
    assert "lock timeout" in done.stderr, "the log says why"
    assert done.stderr.strip().endswith("The command did not finish. Try again.")
