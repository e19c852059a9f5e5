"""Tells whether MEDIA_ROOT of this host holds the organizations' files: it has the mark.

Without it an unmounted disk, or the empty folder that it is mounted at, would be taken for
organizations without files.
"""

import os
from itertools import islice
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db.models import FileField

from organizations.errors import FilesUnknown
from organizations.models import Installation, Organization
from organizations.tenancy import storage, tenant_labels

# Of folders that are looked up at once.
_PAGE = 1_000


def is_here() -> bool:
    """Whether this host has the files. Leaves the mark where it is certain that it belongs."""
    if _mark().exists():
        return True
    if not _is_certain():
        return False
    leave_mark()
    return True


def require(*, even_of_none: bool = True) -> None:
    """Raise FilesUnknown unless this host has the files; without `even_of_none`, only if another
    can have them."""
    if not is_here() and (even_of_none or is_elsewhere()):
        raise FilesUnknown(_mark().name)


def is_elsewhere() -> bool:
    """Whether another host can have files that this one lacks.

    Where no app has a FileField nobody needs a MEDIA_ROOT, and there may be none.
    """
    return not is_here() and (os.path.isdir(settings.MEDIA_ROOT) or _is_stored_to())


def leave_mark() -> None:
    """Mark MEDIA_ROOT, which is made if need be, as the folder of this installation's files."""
    mark = _mark()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()  # A name without content: it is there or not, never half written.


def _mark() -> Path:
    key = Installation.objects.values_list("key", flat=True).get(pk=1)
    return Path(settings.MEDIA_ROOT, f"installation-{key}")


def _is_stored_to() -> bool:
    return any(
        isinstance(field, FileField)
        for model in apps.get_models()
        if model._meta.app_label in tenant_labels()
        for field in model._meta.local_fields
    )


def _is_certain() -> bool:
    """Whether MEDIA_ROOT is there, and an organization's files are in it, or none has any yet."""
    if not os.path.isdir(settings.MEDIA_ROOT):
        return False
    if not Organization.objects.exclude(status=Organization.Status.PROVISIONING).exists():
        return True
    found = storage.keys_in(settings.MEDIA_ROOT)
    while keys := list(islice(found, _PAGE)):
        if Organization.objects.filter(key__in=keys).exists():
            return True
    return False
