"""Makes DRF serializers refuse instances of another organization.

A query set gives its rows only to its own organization (tenancy/querysets.py). A list, a
`cached_property` or a module that keeps objects has no such check, but all objects pass here on
their way out.
"""

from functools import wraps
from typing import Any

from rest_framework.serializers import Serializer

from organizations.tenancy import NoTenant, peek
from organizations.tenancy.instances import home_of, refuse_elsewhere


def guard_serializers() -> None:
    """Make serializers raise WrongTenant, or NoTenant, for another organization's instance.

    Called once, when the apps are ready; later calls do nothing. Relies on every serializer with
    fields representing each instance by Serializer.to_representation (REST framework 3.18).
    """
    method: Any = Serializer.to_representation
    if hasattr(method, "__wrapped__"):
        return

    @wraps(method)
    def guarded(self: Any, instance: Any) -> Any:
        if home_of(instance) is not None:
            if peek() is None:
                raise NoTenant(f"This {type(instance)._meta.label}")
            refuse_elsewhere(instance)
        return method(self, instance)

    Serializer.to_representation = guarded  # type: ignore[method-assign]
