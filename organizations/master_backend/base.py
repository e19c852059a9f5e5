"""Database backend of the master: cheap health check, and tracking of bare atomic blocks."""

from collections.abc import Callable, Iterable
from typing import Any

from django.db.backends.postgresql import base
from django.db.transaction import Atomic

from organizations.tenancy.guard import is_quiet
from organizations.tenancy.transaction import refuse_early_commit, uncovered


class _Blocks(list[Atomic]):
    """The open atomic blocks, each with the activation that it does not cover.

    Relies on Django 5.2, db/transaction.py: Atomic appends itself here, and is popped.
    """

    def __init__(self, blocks: Iterable[Atomic]) -> None:
        super().__init__(blocks)
        self.begun_in: list[object | None] = [None] * len(self)

    def append(self, block: Atomic) -> None:
        super().append(block)
        self.begun_in.append(uncovered())

    def pop(self, *args: Any) -> Atomic:
        self.begun_in.pop(*args)
        return super().pop(*args)


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, with a cheaper health check, and checks for organizations' transactions.

    For CONN_HEALTH_CHECKS Django sends `SELECT 1` before the first statement of each request: a
    fifth of a short request's time. An idle session that the server has ended shows on the socket.
    """

    def is_usable(self) -> bool:
        """Whether the connection can be used; queries the server only after an error."""
        if self.errors_occurred:
            return super().is_usable()
        return is_quiet(self.connection)

    @property
    def atomic_blocks(self) -> list[Atomic]:
        """Django's list, which it creates for each connection."""
        return self._blocks

    @atomic_blocks.setter
    def atomic_blocks(self, blocks: list[Atomic]) -> None:
        self._blocks = _Blocks(blocks)

    def begun_in(self) -> list[object | None]:
        """For each open block, the activation whose writes it does not cover, or None."""
        return self._blocks.begun_in

    def on_commit(self, func: Callable[[], Any], robust: bool = False) -> None:
        """As Django's. Raises WrongTransaction inside an organization's transaction."""
        if not self.in_atomic_block:
            refuse_early_commit()
        super().on_commit(func, robust)
