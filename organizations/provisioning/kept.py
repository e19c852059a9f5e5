"""Drops the databases, roles and files that restores keep aside."""

from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from organizations.errors import FilesKept
from organizations.models import Organization, Restore
from organizations.postgres import databases, identity
from organizations.postgres.identity import Expected
from organizations.postgres.sessions import ServerSession
from organizations.tenancy import storage, trail

from . import media

# The fields of a row that keeps nothing any more.
NOTHING: dict[str, Any] = {
    "database_name": "",
    "role_name": "",
    "files": "",
    "kept_until": None,
}


def expected_kept(row: Restore) -> Expected:
    """What the row says about the database that it keeps."""
    return Expected(
        f"a database kept for organization {row.organization_id}",
        row.key,
        row.role_name,
        row.database_name,
        identity.State.ASIDE,
        row.key,
        was_aside=True,
    )


def drop_kept(session: ServerSession, row: Restore) -> None:
    """Drop what the row keeps. It keeps nothing afterwards, and until then it says what is left.

    Nobody may switch the organization meanwhile: its backup lock is held, or its name's. May be
    repeated. Raises DatabaseKept unless row, identity, OID and owner agree, FilesKept, and what
    PostgreSQL raises.
    """
    databases.drop(session, identity.certain(session, expected_kept(row)))
    if row.role_name and session.role_exists(row.role_name):
        # A grant in another organization's database holds it: drop_disabled() drops it later.
        deleting = identity.State.DELETING
        with transaction.atomic(using="default"):
            found = identity.find(session, role=row.role_name, database=row.database_name).identity
            if found is not None and found.state == identity.State.ASIDE:
                identity.change(session, expected_kept(row), state=deleting)
    _remove_files(row)
    facts = {"restore": row.key}
    with transaction.atomic(using="default"):
        rows = Restore.objects.filter(pk=row.pk)
        rows.filter(state=Restore.State.SWITCHING).update(state=Restore.State.DONE, ended_at=Now())
        rows.update(**NOTHING)
        trail.record("organization.kept_dropped", organization_id=row.organization_id, facts=facts)


def _remove_files(row: Restore) -> None:
    """Those of the kept database, and those of a switch that was not finished."""
    # A switch that took files has left a folder for certain.
    if row.files and not media.is_here():
        raise FilesKept(row)
    for key in filter(None, (row.key, row.files)):
        # adopt_org can have given it to an organization, even one that this master does not know.
        is_taken = Organization.objects.filter(key=key).exists() or key in identity.living_keys()
        if not is_taken and not storage.remove(key):
            raise FilesKept(row)
