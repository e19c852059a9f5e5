"""Writes identities of roles (identify_orgs) and claims a restored master (claim_installation)."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.db import connections, transaction
from django.utils import timezone

from organizations.errors import MasterStillThere, NothingToClaim
from organizations.models import (
    BackupRun,
    Installation,
    Organization,
    Restore,
    SpareDatabase,
    Template,
    random_key,
)
from organizations.naming import name_key as key_of
from organizations.postgres import identity, installation
from organizations.postgres.fence import mark_no_fence
from organizations.postgres.holding import hold
from organizations.postgres.identity import Expected, Found, Identity, State
from organizations.postgres.sessions import ServerSession, open_session
from organizations.provisioning import spares, templates
from organizations.provisioning.undoing import expected
from organizations.tenancy import trail

Status = Organization.Status
# Added to the highest known id, for organizations that were created and deleted after the dump.
_SPARE_NUMBERS = 1_000
_NOT_OURS = "its database is another installation's"


@dataclass(frozen=True)
class Identified:
    """One role. refused: why it got no identity; empty if it has one now."""

    name: str
    refused: str = ""


def identify_organizations(ids: Collection[int] | None = None) -> Iterator[Identified]:
    """Write missing identities of roles; yields each.

    ids: only these organizations, and also if their database is not the recorded one (it was
    restored by hand). Unfinished ones are refused, since they may or may not have been in use.
    Raises OrganizationBusy, InstallationUnclaimed, ServerUnavailable and ServerRefused.
    """
    with open_session() as session:
        rows = Organization.objects.live().order_by("pk")
        for row in rows if ids is None else rows.filter(pk__in=list(ids)):
            hold(session, row, wait_seconds=10)
            try:
                yield from _identify(session, row, is_named=ids is not None)
            finally:
                session.unlock(key_of(row.name))
        if ids is None:
            yield from _identify_stock(session)


def _identify(session: ServerSession, row: Organization, *, is_named: bool) -> Iterator[Identified]:
    if row.status == Status.DELETING and not row.deletion:
        row.deletion = random_key()
        Organization.objects.filter(pk=row.pk).update(deletion=row.deletion)
    wanted = expected(row)
    found = identity.find(session, role=row.role_name, database=row.database_name)
    is_new = found.identity is None
    if not found.has_role or not (is_new or (is_named and not _knows(found))):
        return
    if is_new and wanted.state == State.MADE:
        yield Identified(row.name, f"it is {row.status}: unknown whether it was in use")
    elif found.oid is not None and found.owner not in _owners(session, wanted):
        yield Identified(row.name, f"its database belongs to {found.owner}")
    elif found.identity is not None and (
        why := identity.disagreement(found.identity, wanted, installation=session.installation)
    ):
        yield Identified(row.name, why)
    else:
        _write(session, wanted, found, row)
        trail.record("organization.identified", organization_id=row.pk)
        yield Identified(row.name)


def _owners(session: ServerSession, wanted: Expected) -> tuple[str, ...]:
    return (wanted.role, session.user) if wanted.was_aside else (wanted.role,)


def _knows(found: Found) -> bool:
    return found.oid is None or (
        found.identity is not None and found.oid in found.identity.databases
    )


def _identify_stock(session: ServerSession) -> Iterator[Identified]:
    """Identify templates and spare databases, by the names that only they can have."""
    for wanted in _stock(session):
        found = identity.find(session, role=wanted.role, database=wanted.database)
        # A spare that was taken has another name: its role may be an organization's.
        if found.has_role and found.identity is None and found.oid is not None:
            if found.owner not in (wanted.owners or (wanted.role,)):
                yield Identified(wanted.name, f"its database belongs to {found.owner}")
                continue
            _write(session, wanted, found)
            yield Identified(wanted.name)


def _stock(session: ServerSession) -> Iterator[Expected]:
    yield from map(spares.expected, SpareDatabase.objects.all())
    for template in Template.objects.all():
        yield templates.expected(session, template)


def _write(
    session: ServerSession, wanted: Expected, found: Found, row: Organization | None = None
) -> None:
    in_use = row if wanted.state != State.MADE else None
    written = Identity(
        session.installation,
        wanted.key,
        wanted.state,
        () if found.oid is None else (found.oid,),
        wanted.deletion,
        None if in_use is None else in_use.pk,
        None if in_use is None else in_use.cloned_from,
        in_use.read_only_until.isoformat() if in_use and in_use.read_only_until else "",
    )
    session.execute(written.comment(wanted.role))


def without_identity() -> int:
    """How many roles named by a row have no identity yet. One query, on the master's server."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_roles AS r "
            "WHERE shobj_description(r.oid, 'pg_authid') IS NULL AND rolname IN ("
            "SELECT role_name FROM organizations WHERE status <> %s "
            "UNION ALL SELECT role_name FROM spare_databases "
            "UNION ALL SELECT role_name FROM templates)",
            (Status.DELETED,),
        )
        return int(cursor.fetchone()[0])


# --- The installation ---------------------------------------------------------------------------
@dataclass(frozen=True)
class Claimed:
    """The result of a claim. identified: roles whose OIDs were rewritten. closed: organizations
    suspended because their databases belong to the other installation. next_id: the minimum id of
    the next organization."""

    identified: int
    closed: int
    next_id: int


def claim_installation(*, new: bool) -> Claimed:
    """Put this copy of a master into use.

    new: as a separate installation beside the original; otherwise in its place. All processes of
    the application must be stopped. All in one transaction. Raises MasterStillThere if the original
    is on this server and `new` is false, and NothingToClaim in a master that is not a copy.
    """
    before = installation.standing()
    if not before.is_copy:
        raise NothingToClaim
    if not new and not before.is_on_another_server and _is_there(before):
        raise MasterStillThere
    key = random_key() if new else before.key
    identified = closed = 0
    with transaction.atomic(using="default"):
        # Locked: if two claim at once, the second finds it done.
        Installation.objects.select_for_update().get(pk=1)
        if before.is_on_another_server:
            # OIDs differ on each server; the databases here came with the dump.
            for role, found in _moved(before):
                replace(found, installation=key).write(role)
                identified += 1
        elif new:
            # On the same server everything the rows name belongs to the original, sessions too.
            mark_no_fence()
            closed = Organization.objects.live().update(
                status=Status.SUSPENDED,
                status_reason=_NOT_OURS,
                status_message="",
                status_changed_at=timezone.now(),
                # Nothing here may reach it any more: no migration, no command, no worker.
                sealed_password="",
                pending_fence="",
                kept_until=None,
                status_before="",
                archived_from="",
            )
            SpareDatabase.objects.all().delete()
            Template.objects.all().delete()
            # What restores kept is the original's too. On another server it came with the dump.
            Restore.objects.all().delete()
        if new:
            # They are the original's, in its storage: pruning here must not remove them.
            Organization.objects.update(archived_backup=None)
            BackupRun.objects.all().delete()
        Installation.objects.filter(pk=1).update(
            key=key,
            system_identifier=before.server,
            database_oid=before.database,
            claimed_at=timezone.now(),
        )
        next_id = _number_on()
        trail.record(
            "installation.claimed",
            organization_id=None,
            facts={"new": new, "identified": identified, "closed": closed, "next_id": next_id},
        )
    return Claimed(identified, closed, next_id)


def _is_there(before: installation.Standing) -> bool:
    """Whether the original is still on this server."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_database WHERE oid = %s::bigint::oid)",
            [before.recorded_database],
        )
        return bool(cursor.fetchone()[0])


_IDENTITIES = """
SELECT r.rolname::text, shobj_description(r.oid, 'pg_authid'),
    ARRAY(SELECT d.oid::bigint FROM pg_database AS d WHERE d.datdba = r.oid)
FROM pg_roles AS r JOIN pg_shdescription AS s
    ON s.objoid = r.oid AND s.classoid = 'pg_authid'::regclass
"""


def _identities() -> Iterator[tuple[str, Identity, list[int]]]:
    """Every role with an identity, and the OIDs of the databases it owns."""
    with connections["default"].cursor() as cursor:
        cursor.execute(_IDENTITIES)
        rows = cursor.fetchall()
    for role, comment, owned in rows:
        found = Identity.read(comment)
        if found is not None:
            yield str(role), found, list(owned)


def _moved(before: installation.Standing) -> list[tuple[str, Identity]]:
    """The roles named by rows, with the row's key and the role's databases on this server."""
    rows: list[Any] = [*Organization.objects.live(), *SpareDatabase.objects.all()]
    rows += Restore.objects.keeping()
    keys: dict[str, tuple[str, str]] = {row.role_name: (row.key, row.database_name) for row in rows}
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT datname::text, oid::bigint, datdba = current_user::regrole FROM pg_database"
        )
        rows_of_catalog = cursor.fetchall()
    oids: dict[str, int] = {database: oid for database, oid, _ in rows_of_catalog}
    ours = [oid for _, oid, is_ours in rows_of_catalog if is_ours]
    unfinished = Restore.objects.filter(state=Restore.State.SWITCHING)
    switching = set(unfinished.values_list("organization_key", flat=True))
    found = []
    for role, each, owned in _identities():
        key, database = keys.get(role, ("", ""))
        # What is kept aside is the application's, and its role's until it is wholly aside. What an
        # undo brings back is the application's until its switch is finished.
        may_be_ours = each.state == State.ASIDE or each.key in switching
        owned = [*owned, *ours] if may_be_ours else owned
        if each.installation != before.key or each.key != key:
            continue
        if oids.get(database) in owned:
            found.append((role, replace(each, databases=(oids[database],))))
        elif each.state != State.MADE and not each.databases:
            found.append((role, each))  # Archived.
    return found


def _number_on() -> int:
    """Raise the id sequence so that no organization gets a used id. Returns the next id."""
    highest = max((each.organization or 0 for _, each, _ in _identities()), default=0)
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence('organizations', 'id'), greatest("
            "(SELECT max(id) FROM organizations), "
            "(SELECT max(organization_id) FROM audit_entries), "
            "(SELECT last_value FROM organizations_id_seq), %s) + %s)",
            [highest, _SPARE_NUMBERS],
        )
        return int(cursor.fetchone()[0]) + 1
