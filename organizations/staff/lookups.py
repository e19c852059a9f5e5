"""Restricts which fields a Django admin list can be filtered by."""

from typing import Any

from django.http import HttpRequest

from .generic import AnyAdmin


class OfferedLookups(AnyAdmin):
    """Allows filtering a list by its key and its own filters only.

    Django would allow any column of the model in the URL: whoever may see the list could read
    a hidden column, character by character.
    """

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        filters = self.list_filter if request is None else self.get_list_filter(request)
        key = self.model._meta.pk
        offered = {"pk", key.name if key else "pk", self.date_hierarchy, *map(_name, filters)}
        if lookup.partition("__")[0] not in offered:
            return False
        # Lookups across a relation are left to Django, which requires the whole path to be listed.
        return bool(super().lookup_allowed(lookup, value, request))


def _name(offered: Any) -> str:
    """A filter's name in the URL: a field, a field with its kind, or the filter's own."""
    if isinstance(offered, (tuple, list)):
        return str(offered[0])
    return str(getattr(offered, "parameter_name", offered))
