"""Activates a tenant whose database has untrusted code, such as triggers that came with it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from psycopg.pq import TransactionStatus

from .context import override
from .guard import time_limit
from .tenant import Tenant
from .transaction import connection

# A trigger can SET anything, and make a temporary table, which would be found before ours.
_AS_BEGUN = (
    b"RESET SESSION AUTHORIZATION; RESET ALL; "
    b"SET search_path = public, pg_temp; SET statement_timeout = 0"
)


@contextmanager
def inside(tenant: Tenant, *, until: float, seconds: float) -> Iterator[None]:
    """Activate it, without the time limit of a request's statement.

    until, seconds: when and after how long the client ends it. Each statement finds the session as
    it began, and the tables in public: else what a trigger set during the one before could lead it
    to other tables.
    """
    with override(tenant), time_limit(seconds):
        inner = connection()
        inner.ensure_connection()
        inner.connection.ends_at = until
        with inner.execute_wrapper(_as_begun):
            yield


def _as_begun(
    execute: Callable[..., Any],
    statement: str,
    parameters: Any,
    many: bool,
    context: dict[str, Any],
) -> Any:
    session = context["connection"].connection
    # After an error only ROLLBACK can follow.
    if session.info.transaction_status != TransactionStatus.INERROR:
        session.execute(_AS_BEGUN)
    return execute(statement, parameters, many, context)
