"""What a list of Django admin may be filtered by."""

from typing import TYPE_CHECKING, Any

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest

if TYPE_CHECKING:
    _ModelAdmin = ModelAdmin[Any]
else:  # Generic in the stubs alone.
    _ModelAdmin = ModelAdmin


class OfferedLookups(_ModelAdmin):
    """A list is filtered by its key and by what it offers.

    Django lets the address ask for any column of the model itself: whoever may see the list reads a
    column that it never shows, character by character.
    """

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        filters = self.list_filter if request is None else self.get_list_filter(request)
        key = self.model._meta.pk
        offered = {"pk", key.name if key else "pk", self.date_hierarchy, *map(_name, filters)}
        if lookup.partition("__")[0] not in offered:
            return False
        # What lies behind a relation is Django's to judge: it wants all of its path named.
        return bool(super().lookup_allowed(lookup, value, request))


def _name(offered: Any) -> str:
    """What a filter is called in the address: a field, a field with its kind, or a filter's own."""
    if isinstance(offered, (tuple, list)):
        return str(offered[0])
    return str(getattr(offered, "parameter_name", offered))
