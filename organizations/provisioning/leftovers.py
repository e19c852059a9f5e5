"""Drops half-made templates and spare databases. Leaves alone what no row names."""

from organizations.errors import OrganizationBusy
from organizations.models import SpareDatabase, Template

from . import spares, templates
from .failures import noted
from .server import ServerSession

Names = list[str]


def clean(session: ServerSession, *, wait_seconds: float) -> tuple[Names, Names, Names]:
    """Drop what is half made; the names of what was dropped, skipped and failed.

    What another process still works on after the wait is skipped: that one cleans up itself. What
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
    """Half-made ones, and those whose database is gone."""
    for spare in SpareDatabase.objects.all():
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
