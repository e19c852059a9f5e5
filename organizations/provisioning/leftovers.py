"""Templates and spare databases that died half-way, and what no row knows of."""

import re

from organizations.errors import OrganizationBusy
from organizations.models import Organization, SpareDatabase, Template
from organizations.naming import RESERVED_PREFIX, ROLE_PATTERN, system_prefix

from . import spares, templates
from .database import drop_database
from .failures import noted
from .role import drop_role
from .server import ServerSession

KINDS = ("spare", "building", "template")


Names = list[str]


def clean(session: ServerSession, *, wait_seconds: float) -> tuple[Names, Names, Names]:
    """Drop what is half made and what nobody knows: names of what was dropped, skipped and failed.

    What somebody is at work on is skipped behind the wait: they clean up themselves. What cannot be
    dropped leaves the others alone.
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
    # Both locks are held: nobody makes one just now.
    _unknown(session, dropped, failed)
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


def _unknown(session: ServerSession, dropped: Names, failed: Names) -> None:
    """Databases of the system's own that no row names, and roles of templates likewise.

    The list comes first and the rows second: what is taken in between has another name then.
    """
    master = session.connection.info.dbname
    prefixes = tuple(system_prefix(kind, master=master) for kind in KINDS)
    listed = session.connection.execute(
        "SELECT datname, pg_get_userbyid(datdba) FROM pg_database "
        "WHERE starts_with(datname, %s) AND pg_has_role(datdba, 'MEMBER')",
        (RESERVED_PREFIX,),
    ).fetchall()
    known = set(SpareDatabase.objects.values_list("database_name", flat=True))
    known |= set(Template.objects.values_list("database_name", flat=True))
    for database, owner in ((str(name), str(owner)) for name, owner in listed):
        if not database.startswith(prefixes) or database in known:
            continue
        with noted(session, f"database {database}", failed):
            drop_database(session, database=database, role=owner)
            if owner != session.user and _is_nobodys(owner):
                drop_role(session, role=owner)
            dropped.append(f"database {database}")


def _is_nobodys(role: str) -> bool:
    """Whether it is a role of ours that no row names."""
    if not re.fullmatch(ROLE_PATTERN, role):
        return False
    return not any(
        rows.filter(role_name=role).exists()
        for rows in (Organization.objects.live(), SpareDatabase.objects, Template.objects)
    )
