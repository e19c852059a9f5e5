"""Keeps the tenant active while streamed responses and generators run, after their block."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Generic, Self, TypeVar

from . import registry
from .context import override
from .tenant import Tenant

T = TypeVar("T")


class iterate(Iterator[T], Generic[T]):  # noqa: N801 - reads as a verb at the call site
    """Iterate over `iterable` with `tenant` active during each step, and only then.

    The alias stays pinned, and its connection open, until the end, `close()` or collection, since
    a server-side cursor outlives the block that made it.
    """

    def __init__(self, tenant: Tenant, iterable: Iterable[T]) -> None:
        self._pin: registry.Pin | None = registry.Pin(tenant)
        self._tenant = tenant
        with override(tenant):
            self._iterator = iter(iterable)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            with override(self._tenant):
                return next(self._iterator)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the iteration and release the connection. May be called twice."""
        pin, self._pin = self._pin, None
        if pin is None:
            return
        try:
            close = getattr(self._iterator, "close", None)
            if close is not None:
                with override(self._tenant):
                    close()
        finally:
            pin.release()

    def __del__(self) -> None:
        pin = getattr(self, "_pin", None)
        if pin is not None:
            pin.release()


async def aiterate(tenant: Tenant, iterable: AsyncIterable[T]) -> AsyncIterator[T]:
    """`iterate` for an asynchronous iterable."""
    with registry.Pin(tenant):
        with override(tenant):
            iterator = aiter(iterable)
        try:
            while True:
                with override(tenant):
                    try:
                        item = await anext(iterator)
                    except StopAsyncIteration:
                        return
                yield item
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                with override(tenant):
                    await close()
