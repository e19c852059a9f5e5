"""The active tenant: `override` activates one for a thread or async task.

The state is a stack in a ContextVar: local to the thread and to the async task, empty in a new
thread, copied into a new task. `override` is the only way in, and it always restores.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from contextvars import ContextVar
from functools import wraps
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from django.db import Error as DatabaseError

from . import registry
from .errors import NoTenant
from .tenant import Tenant

F = TypeVar("F", bound=Callable[..., Any])


class _Entry:
    """One activation. It is closed once, by any thread or context."""

    __slots__ = ("_pin", "closed", "owner", "tenant")

    def __init__(self, tenant: Tenant | None) -> None:
        self.tenant = tenant
        self.closed = False
        self.owner = _flow()
        self._pin = None if tenant is None else registry.Pin(tenant)

    def close(self) -> None:
        self.closed = True
        if self._pin is not None:
            self._pin.release()


def _flow() -> tuple[int, int]:
    """What is running: the thread and its async task."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), id(task)


_stack: ContextVar[tuple[_Entry, ...]] = ContextVar("tenancy_stack", default=())


def peek() -> Tenant | None:
    """The active tenant, or None."""
    # A copied context can contain a closed entry (a task that outlived its block, a generator
    # collected elsewhere): it activates nothing, and hides what is below it.
    stack = _stack.get()
    if not stack or stack[-1].closed:
        return None
    return stack[-1].tenant


def get() -> Tenant:
    """The active tenant. Raises NoTenant when there is none."""
    tenant = peek()
    if tenant is None:
        raise NoTenant
    return tenant


def activation() -> object | None:
    """An object that identifies this activation; None without one."""
    stack = _stack.get()
    return stack[-1] if stack and not stack[-1].closed else None


def reset() -> None:
    """End all activations of this context, at the start and end of a request or job.

    Blocks that a task was started inside stay active for their own code.
    """
    flow = _flow()
    for entry in reversed(_stack.get()):
        if entry.owner == flow:
            entry.close()
    _stack.set(())


class override(ContextDecorator):  # noqa: N801 - named as Django names its own (timezone.override)
    """Make `tenant` active inside the block, and restore the previous one afterwards.

    tenant: a Tenant, or None for a block in which every tenant query must fail.
    Also a decorator for functions and coroutine functions. Refuses generator functions, whose
    caller would run inside the tenant between steps; use `iterate`.
    Raises RegistryFull when no alias is free. Two reasons are raised instead of the DatabaseError
    that they caused: why a request's block lost its connection (the organization was suspended,
    moved or migrated back), and that the organization is read-only. Restores when the block raises,
    and when blocks end in a different order than they began.
    """

    def __init__(self, tenant: Tenant | None) -> None:
        self.tenant = tenant
        self._entry: _Entry | None = None

    def __enter__(self) -> Self:
        if self._entry is not None:
            raise RuntimeError("This override is already active; make another one.")
        self._entry = _Entry(self.tenant)
        _stack.set((*_stack.get(), self._entry))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entry, self._entry = self._entry, None
        if entry is None:
            return
        refusal = None
        try:
            if isinstance(exc, DatabaseError) and entry.tenant is not None:
                refusal = registry.refusal_after_loss(entry.tenant)
                refusal = refusal or registry.refusal_of_write(entry.tenant, exc)
        finally:
            # Remove this entry wherever it is: a generator may end later than a block that began
            # after it, and restoring "what was before" would reactivate a finished tenant.
            _stack.set(tuple(other for other in _stack.get() if other is not entry))
            entry.close()
        if refusal is not None:
            raise refusal from exc

    def __call__(self, func: F) -> F:
        if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
            raise TypeError(
                f"{func.__qualname__} is a generator. Wrap what it returns in "
                "tenancy.iterate(tenant, ...) instead."
            )
        if inspect.iscoroutinefunction(func):

            @wraps(func)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with type(self)(self.tenant):
                    return await func(*args, **kwargs)

            return cast(F, run_async)

        @wraps(func)
        def run(*args: Any, **kwargs: Any) -> Any:
            with type(self)(self.tenant):
                return func(*args, **kwargs)

        return cast(F, run)


def bind(func: F) -> F:
    """`func` for another thread or executor, run with the currently active tenant.

    Raises NoTenant at once when there is none.
    """
    return override(get())(func)
