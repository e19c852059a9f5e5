"""Tells by a mark whether MEDIA_ROOT on this host holds the organizations' files.

Without it an unmounted disk, or the empty folder that it is mounted at, would be taken for
organizations without files.
"""

import logging
import os
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.db.models import FileField

from organizations.errors import FilesUnknown
from organizations.models import AuditEntry, Installation, Organization
from organizations.tenancy import tenant_labels, trail

logger = logging.getLogger(__name__)
_MARKED = "media.marked"


def is_here() -> bool:
    """Whether this host has the files. False too if its disk cannot be read."""
    return os.path.exists(_mark())


def require(*, even_of_none: bool = True) -> None:
    """Raise FilesUnknown unless this host has the files; without `even_of_none`, only if another
    host can have them."""
    if not is_here() and (even_of_none or is_elsewhere()):
        raise FilesUnknown(mark_name())


def is_elsewhere() -> bool:
    """Whether another host can have files that this one lacks.

    Where no app has a FileField nobody needs a MEDIA_ROOT, and there may be none.
    """
    return not is_here() and (os.path.isdir(settings.MEDIA_ROOT) or _is_stored_to())


def mark_folder() -> Path:
    """Mark MEDIA_ROOT as the folder of this installation's files, on an operator's word, and record
    it. Returns the mark's path. Raises OSError."""
    with transaction.atomic(using="default"):
        trail.record(_MARKED, organization_id=None, facts={"mark": mark_name()})
        return leave_mark()


def mark_first(*, make_folder: bool = False) -> None:
    """Leave the first mark of a new installation, if MEDIA_ROOT is there; raises no OSError.

    Once an organization was in use or a mark was left, files can be elsewhere, and only an operator
    knows where.
    """
    try:
        with transaction.atomic(using="default"):
            list(Installation.objects.select_for_update())  # Other hosts start too.
            if (
                Organization.objects.exclude(status=Organization.Status.PROVISIONING).exists()
                or AuditEntry.objects.filter(act=_MARKED, facts__mark=mark_name()).exists()
                or not (make_folder or os.path.isdir(settings.MEDIA_ROOT))
            ):
                return
            mark_folder()
    except OSError as error:
        logger.warning("the files' mark was not left in MEDIA_ROOT", exc_info=error)


def leave_mark() -> Path:
    """Make the file, and MEDIA_ROOT if need be."""
    mark = _mark()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()  # A name without content: it is there or not, never half written.
    return mark


def mark_name() -> str:
    """The file's name."""
    return _mark().name


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
