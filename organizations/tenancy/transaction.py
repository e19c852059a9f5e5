"""`atomic`, `on_commit` and `connection` for the active organization's database.

Django's bare ones use the master: a bare `atomic()` around tenant code protects nothing, and one
inside a library is easily missed. So the master's blocks remember which organization was active
when they began (master_backend), and a write that such a block was meant to roll back is refused.
"""

import logging
import re
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .context import activation, get, peek
from .errors import WrongTransaction

logger = logging.getLogger(__name__)

# A statement that writes, after any comments. In a WITH it may come later.
_WRITE = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
    r"(?:WITH\b.*\b(?:INSERT|UPDATE|DELETE|MERGE)\b"
    r"|(?:INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|CREATE|ALTER|DROP|CALL|DO)\b)",
    re.IGNORECASE | re.DOTALL,
)


class _Atomic(transaction.Atomic):
    """Marks a block as meant for the organization; Django's own methods begin blocks too."""


class _AtomicEvenReadOnly(_Atomic):
    """Begins as READ WRITE, whatever the default of the organization's role is."""

    def __enter__(self) -> None:
        wrapper = connections[self.using or DEFAULT_DB_ALIAS]
        if not wrapper.in_atomic_block:
            wrapper.ensure_connection()
            # psycopg puts it into its BEGIN.
            wrapper.connection.read_only = False
        super().__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            wrapper = connections[self.using or DEFAULT_DB_ALIAS]
            kept = wrapper.connection
            if kept is not None and not kept.closed and not wrapper.in_atomic_block:
                kept.read_only = None  # Else the pool would not keep it.


def atomic(
    *, savepoint: bool = True, durable: bool = False, even_read_only: bool = False
) -> transaction.Atomic:
    """A transaction on the active organization's database. Raises NoTenant.

    even_read_only: it can write where all else is refused (Organization.read_only_until). For
    logins alone, and not inside another block.
    """
    kind = _AtomicEvenReadOnly if even_read_only else _Atomic
    return kind(get().alias, savepoint, durable)


def on_commit(func: Callable[[], Any]) -> None:
    """Call `func` when the organization's transaction commits. Raises NoTenant."""
    transaction.on_commit(func, using=get().alias)


def connection() -> BaseDatabaseWrapper:
    """The connection for raw SQL, instead of django.db.connection. Raises NoTenant."""
    return connections[get().alias]


def uncovered() -> object | None:
    """The activation whose writes a master block that begins now would not cover.

    None if no organization is active, or it already has its own transaction.
    """
    return None if peek() is None or connection().in_atomic_block else activation()


def refuse_uncovered_write(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """An execute_wrapper of organizations' connections. Raises WrongTransaction."""
    master: Any = connections[DEFAULT_DB_ALIAS]
    if master.in_atomic_block and any(begun is activation() for begun in master.begun_in()):
        wrapper = context["connection"]
        text = sql if isinstance(sql, str) else sql.as_string(wrapper.connection)
        meant = any(isinstance(block, _Atomic) for block in wrapper.atomic_blocks)
        if not meant and _WRITE.match(text):
            _refuse(
                "This write would not be rolled back with the block around it: "
                "transaction.atomic() without an alias is a transaction of the master. Use "
                "tenancy.atomic(); if the block is a library's, put it around the call."
            )
    return execute(sql, params, many, context)


def refuse_early_commit() -> None:
    """Raise WrongTransaction if the organization has an open transaction, but the master none."""
    if peek() is not None and connection().in_atomic_block:
        _refuse(
            "This callback would run at once, before the organization's transaction ends: "
            "transaction.on_commit() without an alias uses the master, which has no transaction. "
            "Use tenancy.on_commit()."
        )


def _refuse(reason: str) -> None:
    alias = get().alias
    if settings.ORG_BARE_ATOMIC == "refuse":
        raise WrongTransaction(reason)
    logger.warning(
        "master transaction inside an organization's block: %s",
        reason,
        extra={"alias": alias},
        stack_info=True,
    )
