"""Removes leftovers: half-made templates and spare databases, files of deleted organizations.

Does not touch what no row names.
"""

from collections.abc import Iterator
from itertools import islice

from organizations.errors import OrganizationBusy
from organizations.models import Organization, Restore, SpareDatabase, Template
from organizations.postgres import identity
from organizations.postgres.sessions import ServerSession
from organizations.tenancy import storage

from . import spares, templates
from .failures import noted

Names = list[str]
_PAGE = 1_000


def clean(session: ServerSession, *, wait_seconds: float) -> tuple[Names, Names, Names]:
    """Drop what is half made. Returns the names of what was dropped, skipped and failed.

    What another process still works on after the wait is skipped: that process cleans up. What
    cannot be dropped does not affect the others.
    """
    dropped: list[str] = []
    failed: list[str] = []
    for key, what, act in (
        (spares.LOCK, "spare databases", _spares),
        (templates.LOCK, "templates", _templates),
    ):
        try:
            session.lock(key, name=what, timeout_seconds=wait_seconds)
        except OrganizationBusy:
            return dropped, [what], failed
        act(session, dropped, failed)
    session.unlock(spares.LOCK)
    session.unlock(templates.LOCK)
    return dropped, [], failed


def _spares(session: ServerSession, dropped: Names, failed: Names) -> None:
    """Half-made ones, those whose database is gone, and throw-away ones nobody works in."""
    for spare in SpareDatabase.objects.all():
        is_scratch = spare.fingerprint == spares.SCRATCH
        if is_scratch and not session.try_lock(spares.scratch_lock(spare.key)):
            continue
        gone = session.database_owner(spare.database_name) is None
        if not gone and spare.ready:
            continue
        what = f"spare database {spare.database_name}"
        with noted(session, what, failed):
            if spares.drop(session, spare):
                dropped.append(what)


def _templates(session: ServerSession, dropped: Names, failed: Names) -> None:
    for template in Template.objects.filter(ready=True):
        if session.database_owner(template.database_name) is None:
            templates.distrust(template)
    dropped += [f"template {name}" for name in templates.drop_unfinished(session, failed)]


def remove_files() -> tuple[list[str], list[str]]:
    """Remove files that the deletion of their organization could not remove.

    Returns descriptions of those removed, and of those not removed.
    """
    removed: list[str] = []
    failed: list[str] = []
    for key, name in files():
        if name is not None:
            (removed if storage.remove(key) else failed).append(f"files of {name}")
    return removed, failed


def files() -> Iterator[tuple[str, str | None]]:
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
        known |= dict.fromkeys(_kept_or_coming(page), ("", ""))
        for key in page:
            if key in tombstones or key not in known:
                yield key, None if key in living else tombstones.get(key)


def _kept_or_coming(keys: list[str]) -> set[str]:
    """Those of the keys that belong to a restore: what it keeps, or what comes in with it."""
    kept = Restore.objects.keeping().filter(key__in=keys).values_list("key", flat=True)
    coming = SpareDatabase.objects.filter(key__in=keys).values_list("key", flat=True)
    switching = Restore.objects.filter(files__in=keys).values_list("files", flat=True)
    return {*kept, *coming, *switching}
