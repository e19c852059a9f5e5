"""Identity: proof of which row a database belongs to, stored where its owner cannot change it.

It is the COMMENT ON ROLE of the role that owns the database, in a catalog that all databases of the
server share. Only a superuser, or a role with CREATEROLE and the ADMIN option on it, may write it
(PostgreSQL, COMMENT). Every role may read it, so it names nobody. Nothing is dropped unless the
master's row, the identity, the database's OID and its owner agree.
"""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from django.db import connections
from psycopg import sql

from organizations.errors import DatabaseKept
from organizations.models import Organization

from .sessions import ServerSession

_FORMAT = 1
NEWER = "the server is newer than the master"


class State(StrEnum):
    """The state of the role's database."""

    MADE = "made"  # Never in use: half made, a spare or a template.
    LET_IN = "let in"
    ASIDE = "aside"  # Kept, out of reach: aside.py. Code that does not know it keeps it too.
    # A verified backup is left of it, and the database is dropped, or just being dropped. Older
    # code keeps the role.
    ARCHIVED = "archived"
    DELETING = "deleting"
    MOVED = "moved"  # Its content was moved to another database, of a role with the same key.


# A customer's: a row that says less is of an older master.
CUSTOMERS = (State.LET_IN, State.ASIDE, State.ARCHIVED)


@dataclass(frozen=True, slots=True)
class Identity:
    """installation: Installation.key. key: the row's. databases: the OIDs of those it owns, or that
    are kept aside for it.

    deletion: Organization.deletion while the state is `aside` or `deleting`. organization: the
    row's id, once it is in use; a claimed master gives out only higher ids. cloned_from,
    read_only_until: as the row's, the latter as ISO text. backup: the key of the one that is left
    of it, while the state is `archived`.
    """

    installation: str
    key: str
    state: State = State.MADE
    databases: tuple[int, ...] = ()
    deletion: str = ""
    organization: int | None = None
    cloned_from: int | None = None
    read_only_until: str = ""
    backup: str = ""

    @classmethod
    def read(cls, comment: str | None) -> "Identity | None":
        """The identity in a role's comment; None if it holds none."""
        try:
            said = json.loads(comment or "null")
            if said["orgmgmt"] != _FORMAT:
                return None
            return cls(
                str(said["installation"]),
                str(said["key"]),
                State(said["state"]),
                tuple(int(oid) for oid in said["databases"]),
                str(said.get("deletion", "")),
                said.get("organization"),
                said.get("cloned_from"),
                str(said.get("read_only_until", "")),
                str(said.get("backup", "")),
            )
        except (ValueError, TypeError, KeyError):
            return None

    def comment(self, role: str) -> sql.Composed:
        """The statement that writes it."""
        said: dict[str, Any] = {
            "orgmgmt": _FORMAT,
            "installation": self.installation,
            "key": self.key,
            "state": self.state,
            "databases": self.databases,
        }
        said |= {"deletion": self.deletion} if self.deletion else {}
        said |= {"organization": self.organization} if self.organization is not None else {}
        said |= {"cloned_from": self.cloned_from} if self.cloned_from is not None else {}
        said |= {"read_only_until": self.read_only_until} if self.read_only_until else {}
        said |= {"backup": self.backup} if self.backup else {}
        statement = sql.SQL("COMMENT ON ROLE {} IS {}")
        return statement.format(sql.Identifier(role), sql.Literal(json.dumps(said)))

    def write(self, role: str) -> None:
        """Write it on the master's connection, in its open transaction: the catalog of roles is
        shared by all databases of the master's server."""
        with connections["default"].cursor() as cursor:
            cursor.execute(self.comment(role).as_string())


@dataclass(frozen=True, slots=True)
class Expected:
    """What a row of the master says about its database.

    name: for errors. owners: who may own the database; empty: the role. was_aside: the database is
    or was kept aside: then it may be the application's role too.
    """

    name: str
    key: str
    role: str
    database: str
    state: State
    deletion: str = ""
    owners: tuple[str, ...] = ()
    was_aside: bool = False


def expected_of(
    name: str,
    *,
    key: str,
    role: str,
    database: str,
    status: str,
    deletion: str,
    was_aside: bool = False,
    has_archive: bool = False,
) -> Expected:
    """What an organization's row says. has_archive: it names the backup that is left of it."""
    states: dict[str, State] = {
        Organization.Status.DELETING: State.DELETING,
        Organization.Status.TRASHED: State.ASIDE,
        Organization.Status.ARCHIVING: State.ARCHIVED if has_archive else State.ASIDE,
        Organization.Status.ARCHIVED: State.ARCHIVED,
        **dict.fromkeys(Organization.Status.usable(), State.LET_IN),
    }
    state = states.get(status, State.MADE)
    named = deletion if state in (State.DELETING, State.ASIDE) else ""
    return Expected(name, key, role, database, state, named, was_aside=was_aside)


@dataclass(frozen=True, slots=True)
class Certain:
    """Proof that database and role are the row's. database, role: None if missing.

    Only `certain` makes one, and every drop requires one.
    """

    database: str | None
    role: str | None
    owner: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """What the server has under the row's names. oid, owner, is_open: None if there is no database.

    owners_identity: of the role that owns the database.
    """

    has_role: bool
    identity: Identity | None
    oid: int | None
    owner: str | None
    is_open: bool | None
    owners_identity: Identity | None

    def is_anothers(self, key: str) -> bool:
        """Whether, by its owner's identity, the database was made for a row with another key."""
        owners = self.owners_identity
        return owners is not None and owners.key != key and self.oid in owners.databases


_FIND = """
SELECT r.oid IS NOT NULL, shobj_description(r.oid, 'pg_authid'), d.oid::bigint,
    pg_get_userbyid(d.datdba)::text, d.datallowconn, shobj_description(d.datdba, 'pg_authid')
FROM (SELECT %s::name AS role, %s::name AS database) AS named
LEFT JOIN pg_roles AS r ON r.rolname = named.role
LEFT JOIN pg_database AS d ON d.datname = named.database
"""


def find(session: ServerSession, *, role: str, database: str) -> Found:
    """Look up the role and the database."""
    row = session.connection.execute(_FIND.encode(), (role, database)).fetchone()
    assert row is not None  # noqa: S101 - one row, whatever there is
    has_role, comment, oid, owner, is_open, owners = row
    return Found(has_role, Identity.read(comment), oid, owner, is_open, Identity.read(owners))


def certain(session: ServerSession, expected: Expected) -> Certain:
    """What may be dropped. Raises DatabaseKept if row, identity, OID and owner disagree.

    A foreign database of the same name is not part of it: a sign-up that failed because of one, or
    a row of an older master whose name was taken since, does not own it. Raises
    InstallationUnclaimed in a copy of a master.
    """
    found = find(session, role=expected.role, database=expected.database)
    owners = expected.owners or (expected.role, *([session.user] if expected.was_aside else []))
    if found.owner not in owners and found.is_anothers(expected.key):
        found = replace(found, oid=None, owner=None)
    whose = found.identity
    if whose and not whose.databases and whose.state not in (State.MADE, State.LET_IN):
        found = replace(found, oid=None, owner=None)  # It was archived: another has the name now.
    if _is_over(session, expected, found):
        return Certain(None, None, None)
    if not found.has_role:
        if found.owner is not None and (expected.owners or expected.state != State.MADE):
            raise DatabaseKept(expected.name, f"its role {expected.role} is missing")
        if any(each.state == State.ARCHIVED for _, each in of_key(expected.key)):
            raise DatabaseKept(expected.name, f"{NEWER}: it is archived, by another role")
        return Certain(None, None, None)
    if (why := disagreement(found.identity, expected, installation=session.installation)) != "":
        raise DatabaseKept(expected.name, why)
    assert found.identity is not None  # noqa: S101 - it agrees
    if found.oid is None:
        return Certain(None, expected.role, None)
    if found.owner not in owners:
        if expected.state == State.MADE:
            return Certain(None, expected.role, None)
        raise DatabaseKept(expected.name, f"its database belongs to {found.owner}")
    # Created, but its OID is not recorded yet: it was never opened, and is empty.
    is_unopened = not found.identity.databases and found.is_open is False
    if found.oid not in found.identity.databases and not (
        is_unopened and expected.state == State.MADE
    ):
        raise DatabaseKept(expected.name, "its database is not the one that was created")
    return Certain(expected.database, expected.role, found.owner)


def _is_over(session: ServerSession, expected: Expected, found: Found) -> bool:
    """Whether only a role is left of what the row names, and it moved on without the row.

    The role is kept (role.drop_disabled); the row can be removed. Of what was archived a backup is
    left too, also while it is kept aside.
    """
    whose = found.identity
    if whose is None or found.oid is not None or whose.state in (State.MADE, expected.state):
        return False
    if whose.state == State.ARCHIVED or (whose.state == State.ASIDE and not whose.databases):
        return False
    is_its_own = whose.installation == session.installation and whose.key == expected.key
    return is_its_own and not session.value(
        "SELECT EXISTS (SELECT FROM pg_database WHERE oid = ANY(%s::oid[]))",
        (list(whose.databases),),
    )


def disagreement(identity: Identity | None, expected: Expected, *, installation: str) -> str:
    """How a role's identity differs from the row; empty if they agree."""
    if identity is None:
        return "its role has no identity yet (manage.py identify_orgs)"
    if identity.installation != installation:
        return "its role belongs to another installation"
    if identity.key != expected.key:
        return "its role belongs to another row"
    if identity.state != expected.state:
        return f"{NEWER}: the identity says {identity.state!s}, and the master {expected.state!s}"
    if identity.deletion != expected.deletion:
        return "its role is being deleted by another deletion"
    return ""


def require(session: ServerSession, expected: Expected) -> Identity:
    """The role's identity. Raises DatabaseKept if it is not as expected."""
    found = find(session, role=expected.role, database=expected.database)
    why = disagreement(found.identity, expected, installation=session.installation)
    if why or found.identity is None:
        raise DatabaseKept(expected.name, why)
    return found.identity


def living_keys() -> set[str]:
    """The keys of all organizations in use, kept aside or archived, by the identities on the
    server."""
    return {each.key for _, each in _identities() if each.state in CUSTOMERS}


def of_key(key: str) -> list[tuple[str, Identity]]:
    """The roles and identities of the customer with this key, whatever the master says of it."""
    found = [(role, each) for role, each in _identities() if each.key == key]
    return [(role, each) for role, each in found if each.state in CUSTOMERS]


def kept_aside() -> dict[int, tuple[str, Identity]]:
    """The role and identity of each database that is kept aside, by the database's OID."""
    found = [(role, each) for role, each in _identities() if each.state == State.ASIDE]
    return {oid: (role, each) for role, each in found for oid in each.databases}


def _identities() -> list[tuple[str, Identity]]:
    """Every role of the server with an identity."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT r.rolname::text, description FROM pg_shdescription "
            "JOIN pg_roles AS r ON r.oid = objoid WHERE classoid = 'pg_authid'::regclass"
        )
        found = [(role, Identity.read(comment)) for role, comment in cursor.fetchall()]
    return [(str(role), each) for role, each in found if each is not None]


def change(session: ServerSession, expected: Expected, **changes: Any) -> None:
    """Write a new state into the identity, inside the master's open transaction.

    session: the one that holds the organization's lock, for reading. Raises DatabaseKept if the
    identity is not as expected.
    """
    replace(require(session, expected), **changes).write(expected.role)
