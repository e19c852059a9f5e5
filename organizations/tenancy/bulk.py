"""The writes that ask the router for a model and tell it no instance.

`bulk_update` of objects loaded from one organization would overwrite, in another, the rows with
their keys; `bulk_create` would copy them there. Both are public methods of QuerySet (Django 5.2,
django/db/models/query.py) through which the managers, related managers and their asynchronous
twins go; `guard_bulk_writes` puts the look at the instances in front of them.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.db.models import QuerySet

from .context import get
from .router import is_tenant_model, refuse_other_tenant

_GUARDED = ("bulk_create", "bulk_update")


def guard_bulk_writes() -> None:
    """Make bulk writes of tenant models raise WrongTenant for another organization's objects.

    Called once, when the apps are ready; again it does nothing.
    """
    for name in _GUARDED:
        method = getattr(QuerySet, name)
        if not hasattr(method, "__wrapped__"):
            setattr(QuerySet, name, _guarded(method))


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def guarded(self: QuerySet[Any, Any], objs: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        if is_tenant_model(self.model):
            alias = get().alias
            # An iterator would be used up by the look at it.
            objs = list(objs)
            for instance in objs:
                refuse_other_tenant(instance, alias)
        return method(self, objs, *args, **kwargs)

    return guarded
