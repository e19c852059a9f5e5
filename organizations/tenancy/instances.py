"""What takes an instance and does not show it to the router: bulk writes, and filters.

`bulk_update` of objects loaded from one organization would overwrite, in another, the rows with
their keys; `bulk_create` would copy them there. Both are public methods of QuerySet (Django 5.2,
django/db/models/query.py) through which the managers, related managers and their asynchronous
twins go. `filter(user=<a user of another organization>)` would take its key, and find the user
here who has the same one; every such value passes get_normalized_value (Django 5.2,
django/db/models/fields/related_lookups.py). `guard_instances` puts the look in front of them.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.db.models import Model, QuerySet
from django.db.models.fields import related_lookups

from .context import get
from .router import is_tenant_model, refuse_other_tenant

_GUARDED = ("bulk_create", "bulk_update")


def guard_instances() -> None:
    """Make bulk writes and filters raise WrongTenant for another organization's objects.

    Called once, when the apps are ready; again it does nothing.
    """
    normalize = related_lookups.get_normalized_value
    if not hasattr(normalize, "__wrapped__"):
        related_lookups.get_normalized_value = _guarded_value(normalize)  # type: ignore[assignment]
    for name in _GUARDED:
        method = getattr(QuerySet, name)
        if not hasattr(method, "__wrapped__"):
            setattr(QuerySet, name, _guarded(method))


def _guarded_value(normalize: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    @wraps(normalize)
    def guarded(value: Any, lhs: Any) -> Any:
        if isinstance(value, Model) and is_tenant_model(type(value)):
            refuse_other_tenant(value, get().alias)
        return normalize(value, lhs)

    return guarded


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
