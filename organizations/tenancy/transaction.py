"""Django's transaction helpers, on the active organization's database.

The bare ones default to the master: a bare `atomic()` in tenant code protects nothing.
"""

from collections.abc import Callable
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .context import get


def atomic(*, savepoint: bool = True, durable: bool = False) -> transaction.Atomic:
    """A transaction on the active organization's database. Raises NoTenant."""
    return transaction.atomic(using=get().alias, savepoint=savepoint, durable=durable)


def on_commit(func: Callable[[], Any]) -> None:
    """Call `func` when the organization's transaction commits. Raises NoTenant."""
    transaction.on_commit(func, using=get().alias)


def connection() -> BaseDatabaseWrapper:
    """The connection for raw SQL, instead of django.db.connection. Raises NoTenant."""
    return connections[get().alias]
