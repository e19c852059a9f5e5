"""SQL that an organization's role can run to harm its own database."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from organizations import tenancy
from tests.conftest import Company, Superuser

# It lifts its limit, and continues after each cancel.
FOREVER = """
CREATE FUNCTION forever() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('statement_timeout', '0', false);
    LOOP
        BEGIN PERFORM pg_sleep(600);
        EXCEPTION WHEN query_canceled THEN NULL; END;
    END LOOP;
END $$
"""
SLEEP = """
CREATE FUNCTION sleep() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('statement_timeout', '0', false);
    PERFORM pg_sleep(600);
    RETURN true;
END $$
"""


def run(company: Company, *statements: str) -> None:
    """Run the statements as the organization's role."""
    with tenancy.override(company.tenant), tenancy.connection().cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def replaced(company: Company, table: str, view: str) -> Iterator[None]:
    """Replace the table by the view `view` during the block; `kept` is the real table."""
    run(
        company,
        f"ALTER TABLE {table} RENAME TO kept",
        *((FOREVER,) if "forever()" in view else ()),
        *((SLEEP,) if "sleep()" in view else ()),
        f"CREATE VIEW {table} AS {view}",
    )
    try:
        yield
    finally:
        run(
            company,
            f"DROP VIEW {table}",
            "DROP FUNCTION IF EXISTS forever",
            "DROP FUNCTION IF EXISTS sleep",
            f"ALTER TABLE kept RENAME TO {table}",
        )


def active(superuser: Superuser, company: Company) -> int:
    """How many statements run as the organization's role."""
    row = superuser.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state = 'active'",
        (company.organization.role_name,),
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def until_none_is_active(superuser: Superuser, company: Company) -> None:
    """Wait until nothing runs as its role: a terminated back end takes a moment to notice."""
    deadline = time.monotonic() + 30
    while active(superuser, company):
        assert time.monotonic() < deadline, "the back end runs on"
        time.sleep(0.02)
