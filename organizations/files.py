"""Finds and removes uploaded files of deleted organizations."""

from collections.abc import Iterator
from itertools import islice

from .models import Organization
from .provisioning import identity
from .tenancy import storage

_PAGE = 1_000


def remove_left_over() -> tuple[list[str], list[str]]:
    """Remove files that the deletion of their organization could not remove.

    Returns descriptions of those removed, and of those not removed.
    """
    removed: list[str] = []
    failed: list[str] = []
    for key, name in left_over():
        if name is not None:
            (removed if storage.remove(key) else failed).append(f"files of {name}")
    return removed, failed


def left_over() -> Iterator[tuple[str, str | None]]:
    """Folders without a live organization: the key, and the deleted organization's name.

    None: no row has that key. They may belong to an organization that this master does not know,
    if it was restored from an older backup.
    """
    keys = storage.keys()
    while page := list(islice(keys, _PAGE)):
        rows = Organization.objects.filter(key__in=page).values_list("key", "name", "status")
        known = {key: (name, status) for key, name, status in rows}
        tombstones = {
            key: name
            for key, (name, status) in known.items()
            if status == Organization.Status.DELETED
        }
        # A restored master has tombstones of organizations that were restored since.
        living = identity.living_keys() if tombstones else set()
        for key in page:
            if key in tombstones or key not in known:
                yield key, None if key in living else tombstones.get(key)
