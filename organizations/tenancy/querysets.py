"""Makes a query set's fetched rows unreadable in another organization.

The router is asked when a query runs, and never again: the rows stay in `_result_cache`. A view
that keeps an evaluated query set on its class would show one organization's rows to another.
Django keeps rows only there, for lists, prefetched relations and pickled query sets (Django 5.2,
db/models/query.py). So the attribute becomes a descriptor, which remembers which organization was
active when it was filled, and raises an error in any other.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

from django.db.models import QuerySet
from django.db.models.query import RawQuerySet

from . import router
from .context import peek
from .errors import NoTenant

_ROWS, _HOME = "_result_cache", "_result_home"


def guard_query_sets() -> None:
    """Make fetched rows raise WrongTenant, or NoTenant, outside their organization.

    Called once, when the apps are ready; later calls do nothing.
    """
    if _ROWS in QuerySet.__dict__:
        return
    for kind in (QuerySet, RawQuerySet):
        setattr(kind, _ROWS, _Rows())
    QuerySet._iterator = _stepwise(QuerySet._iterator)  # type: ignore[attr-defined]
    RawQuerySet.iterator = _stepwise(RawQuerySet.iterator)  # type: ignore[method-assign]
    QuerySet.aiterator = _stepwise_async(QuerySet.aiterator)  # type: ignore[method-assign]


class _Rows:
    """The descriptor on the class. Values stay in the instance's `__dict__`, where Django's copying
    and pickling find them."""

    def __get__(self, queryset: Any, owner: object = None) -> Any:
        if queryset is None:
            return self
        kept = queryset.__dict__
        rows = kept.get(_ROWS)
        if rows is not None and (home := kept.get(_HOME)) is not None:
            _refuse(queryset, home)
        return rows

    def __set__(self, queryset: Any, rows: Any) -> None:
        kept = queryset.__dict__
        kept[_ROWS] = rows
        if rows is not None:
            kept[_HOME] = _home(queryset)


def _home(queryset: Any) -> str | None:
    """The alias that the query set reads from now, or None for the master."""
    tenant = peek()
    if tenant is None or not router.is_tenant_model(queryset.model):
        return None
    query = queryset.query
    # none() belongs to nobody.
    return None if hasattr(query, "is_empty") and query.is_empty() else tenant.alias


def _refuse(queryset: Any, home: str) -> None:
    tenant = peek()
    if tenant is not None and tenant.alias == home:
        return
    what = f"What this query set of {queryset.model._meta.label} has fetched"
    if tenant is None:
        raise NoTenant(what)
    router.refuse_other_alias(what, home, tenant.alias)


def _stepwise(method: Callable[..., Iterator[Any]]) -> Any:
    @wraps(method)
    def steps(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        home = _home(self)
        for row in method(self, *args, **kwargs):
            if home is not None:
                _refuse(self, home)
            yield row

    return steps


def _stepwise_async(method: Callable[..., AsyncIterator[Any]]) -> Any:
    @wraps(method)
    async def steps(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        home = _home(self)
        async for row in method(self, *args, **kwargs):
            if home is not None:
                _refuse(self, home)
            yield row

    return steps
