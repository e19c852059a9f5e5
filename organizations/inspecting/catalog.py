"""Reads the server's catalogs: state of each organization's database, and orphans.

The catalogs of databases, roles, memberships and sessions are shared by all databases of a server,
and the master is on it: one query joins them to a page of rows. Each is one statement with one
snapshot. A row is written before what it names is made, and removed after it is dropped: so nothing
that is being made or dropped is ever reported as an orphan.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import connections

from organizations.models import Organization, Restore
from organizations.naming import DATABASE_PREFIX, ROLE_PATTERN, system_prefix
from organizations.postgres.identity import CUSTOMERS, Expected, Identity, State, kept_aside
from organizations.postgres.roles import ADMINISTERED, UNNAMED
from organizations.postgres.sessions import lock_number

PAGE = 1_000
# The system's own databases, by their names.
KINDS = ("spare", "building", "template")


@dataclass(frozen=True, slots=True)
class Seen:
    """An organization's row, and its state on the server.

    owner, None: there is no database; then accepts, is_whole, is_template and connection_limit are
    None too. settings: each with its target (`database`, `role`, or `both`: the role in this
    database), name and value. grants: who has which privilege on the database, '' for PUBLIC.
    attributes, None: there is no role; else those it has of SUPERUSER, CREATEDB, …, and NOLOGIN.
    member_of: other roles, each with the grantor. is_open_to_application: the application's role is
    still a member, from an act that never ended. role_limit: the role's connection limit, -1 for
    none. is_switching: a restore has not ended since its switch. archive: whether the
    backup that it is thawed from is still good; None: there is none.
    """

    organization_id: int
    key: str
    name: str
    slug: str
    status: str
    deletion: str
    database: str
    role: str
    fingerprint: str
    cloned_from: int | None
    is_read_only: bool
    comment: str | None
    oid: int | None
    owner: str | None
    accepts: bool | None
    is_whole: bool | None
    is_template: bool | None
    connection_limit: int | None
    settings: list[list[str]]
    grants: list[list[str]]
    attributes: list[str] | None
    member_of: list[list[str]]
    is_open_to_application: bool
    connections: int
    role_limit: int | None
    is_switching: bool
    archive: bool | None
    sealed_password: str = field(repr=False)

    @property
    def identity(self) -> Identity | None:
        """The identity in the role's comment; None if there is none."""
        return Identity.read(self.comment)


# Sessions without a user: autovacuum. An interrupted DROP DATABASE leaves datconnlimit = -2
# (PostgreSQL, DATCONNLIMIT_INVALID_DB in catalog/pg_database.h). What the application's role
# granted to itself is a membership for one act (ServerSession.membership); that of CREATE ROLE has
# another grantor. The application's role is a member of all others: a plan that assumes the average
# number of memberships for it would read them all for each organization.
_ORGANIZATIONS = """
WITH sessions AS MATERIALIZED (
    SELECT datid, count(*) AS number FROM pg_stat_activity WHERE usesysid IS NOT NULL GROUP BY datid
), memberships AS MATERIALIZED (
    SELECT member, array_agg(ARRAY[pg_get_userbyid(roleid), pg_get_userbyid(grantor)]::text[]
        ORDER BY roleid) AS of
    FROM pg_auth_members WHERE member <> current_user::regrole GROUP BY member
)
SELECT o.id, o.key, o.name, o.slug, o.status, o.deletion, o.database_name, o.role_name,
    o.fingerprint, o.cloned_from, o.read_only_until IS NOT NULL,
    shobj_description(r.oid, 'pg_authid'), d.oid::bigint,
    pg_get_userbyid(d.datdba)::text, d.datallowconn, d.datconnlimit <> -2,
    d.datistemplate, d.datconnlimit,
    ARRAY(
        SELECT ARRAY[CASE WHEN setdatabase = 0 THEN 'role' WHEN setrole = 0 THEN 'database'
            ELSE 'both' END, split_part(setting, '=', 1),
            substr(setting, strpos(setting, '=') + 1)]
        FROM pg_db_role_setting, unnest(setconfig) AS setting
        WHERE (setdatabase = d.oid AND setrole IN (0, r.oid))
        OR (setdatabase = 0 AND setrole = r.oid) ORDER BY 1
    ),
    ARRAY(
        SELECT ARRAY[CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee)::text END,
            privilege_type]
        FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) ORDER BY 1
    ),
    CASE WHEN r.oid IS NOT NULL THEN array_remove(ARRAY[
        CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
        CASE WHEN rolreplication THEN 'REPLICATION' END,
        CASE WHEN rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN NOT rolcanlogin THEN 'NOLOGIN' END
    ], NULL) END,
    coalesce(memberships.of, '{}'),
    EXISTS (
        SELECT FROM pg_auth_members WHERE roleid = r.oid
        AND member = current_user::regrole AND grantor = current_user::regrole
    ),
    coalesce(sessions.number, 0), r.rolconnlimit, EXISTS (
        SELECT FROM restores WHERE organization_key = o.key AND state = %(switching)s
    ), (
        SELECT state = 'good' AND verified_at IS NOT NULL FROM backup_runs
        WHERE id = o.archived_backup_id
    ), o.sealed_password
FROM (
    SELECT * FROM organizations WHERE status <> %(deleted)s AND id > %(after)s
    AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s)) ORDER BY id LIMIT %(page)s
) AS o
LEFT JOIN pg_database AS d ON d.datname = o.database_name::name
LEFT JOIN pg_roles AS r ON r.rolname = o.role_name::name
LEFT JOIN sessions ON sessions.datid = d.oid
LEFT JOIN memberships ON memberships.member = r.oid
ORDER BY o.id
"""


def pages(ids: Collection[int] | None = None) -> Iterator[list[Seen]]:
    """The organizations except tombstones, or those of `ids`, in pages ordered by id."""
    last = 0
    wanted = None if ids is None else list(ids)
    while True:
        page = [Seen(*row) for row in _rows(_ORGANIZATIONS, after=last, ids=wanted)]
        if page:
            yield page
        if len(page) < PAGE:
            return
        last = page[-1].organization_id


def look(ids: Collection[int]) -> dict[int, Seen]:
    """The same for a few, by id; deleted ones are missing."""
    return {seen.organization_id: seen for page in pages(ids) for seen in page}


@dataclass(frozen=True, slots=True)
class Orphan:
    """A database named like ours that no live row owns.

    of, of_database: the organization whose role owns it, and that organization's database name; a
    deleted one has no database. identity: of the role that owns it, or for which it is kept aside.
    """

    database: str
    owner: str
    of: str | None
    of_database: str | None
    identity: Identity | None


# Only what this application's role owns or administers: another application on this server has its
# own role, another installation of this one its own identities.
_DATABASES = f"""
SELECT d.datname::text, u.rolname::text, o.name,
    CASE WHEN o.status <> %(deleted)s THEN o.database_name END,
    shobj_description(u.oid, 'pg_authid'), d.oid::bigint, l.key, ARRAY(
        SELECT k.key FROM restores AS k
        WHERE k.kept_until IS NOT NULL AND k.database_name = d.datname::text
    )
FROM pg_database AS d JOIN pg_roles AS u ON u.oid = d.datdba
LEFT JOIN organizations AS o ON o.role_name = u.rolname::text
LEFT JOIN organizations AS l ON l.database_name = d.datname::text AND l.status <> %(deleted)s
WHERE d.datname > %(after)s AND d.datname <> current_database()
AND EXISTS (SELECT FROM unnest(%(prefixes)s::text[]) AS prefix
    WHERE starts_with(d.datname, prefix))
AND (u.rolname = current_user
    OR (u.rolname ~ %(ours)s AND {ADMINISTERED}))
AND (l.id IS NULL OR u.rolname <> l.role_name)
AND NOT EXISTS (SELECT FROM spare_databases AS s WHERE s.database_name = d.datname::text)
AND NOT EXISTS (SELECT FROM templates AS t WHERE t.database_name = d.datname::text)
ORDER BY d.datname LIMIT %(page)s
"""  # noqa: S608 - our own constant


def orphan_databases(installation: str, *, application: str) -> Iterator[Orphan]:
    """Orphan databases of the server, ordered by name.

    installation: this one's key. Databases with another installation's identity are skipped.
    application: the application's role.
    """
    master = str(connections["default"].settings_dict["NAME"])
    after = ""
    aside: dict[int, tuple[str, Identity]] | None = None
    while True:
        parameters = {
            "prefixes": [DATABASE_PREFIX, *(system_prefix(kind, master=master) for kind in KINDS)],
            "ours": ROLE_PATTERN,
            "after": after,
        }
        rows = _rows(_DATABASES, **parameters)
        for *facts, comment, oid, key, keeping in rows:
            identity = Identity.read(comment)
            if identity is None and facts[1] == application:
                aside = kept_aside() if aside is None else aside
                _, identity = aside.get(oid, ("", None))
                if identity is None and keeping:
                    continue  # It is being dropped just now, or of_kept() says what it is.
            if (
                identity is not None
                and (identity.state == State.ASIDE and oid in identity.databases)
                and identity.key in (key, *keeping)
            ):
                continue  # A row says that it is kept.
            if identity is None or identity.installation == installation:
                database, owner, of, of_database = facts
                # An older row has a name that another database took since.
                if key is not None and not (identity and oid in identity.databases):
                    continue
                yield Orphan(database, owner, of, of_database, identity)
        if len(rows) < PAGE:
            return
        after = rows[-1][0]


_KEPT = """
SELECT k.organization_id, k.organization_key, k.key, k.role_name, k.database_name,
    shobj_description(r.oid, 'pg_authid'), d.oid::bigint,
    pg_get_userbyid(d.datdba)::text, d.datallowconn OR r.rolcanlogin
FROM restores AS k LEFT JOIN pg_roles AS r ON r.rolname = k.role_name::name
LEFT JOIN pg_database AS d ON d.datname = k.database_name::name AND d.datconnlimit <> -2
WHERE k.kept_until IS NOT NULL AND k.database_name <> '' AND k.state <> 'switching'
ORDER BY k.id
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A database that a restore keeps, by its row, and its state on the server.

    oid, owner, is_open: None if it or its role is missing, or it is half dropped.
    """

    organization_id: int
    organization_key: str
    key: str
    role: str
    database: str
    comment: str | None
    oid: int | None
    owner: str | None
    is_open: bool | None

    @property
    def expected(self) -> Expected:
        """What its row says about its identity."""
        return Expected(self.database, self.key, self.role, self.database, State.ASIDE, self.key)


def kept_by_restores() -> list[Kept]:
    """All databases that restores keep."""
    return [Kept(*row) for row in _rows(_KEPT)]


_ROLES = f"""
SELECT u.rolname::text, o.name, ARRAY(
    SELECT DISTINCT coalesce(datname, current_database())::text FROM pg_shdepend
    LEFT JOIN pg_database AS d ON d.oid = dbid
        OR (dbid = 0 AND classid = 'pg_database'::regclass AND d.oid = objid)
    WHERE refclassid = 'pg_authid'::regclass AND refobjid = u.oid ORDER BY 1
), shobj_description(u.oid, 'pg_authid')
FROM pg_roles AS u LEFT JOIN organizations AS o ON o.role_name = u.rolname::text
WHERE u.rolname > %(after)s AND u.rolname ~ %(ours)s AND {ADMINISTERED} AND {UNNAMED}
AND NOT EXISTS (SELECT FROM pg_database WHERE datdba = u.oid)
ORDER BY u.rolname LIMIT %(page)s
"""  # noqa: S608 - our own constants


@dataclass(frozen=True, slots=True)
class OrphanRole:
    """A role of ours that no live row names and that owns no database.

    of: the deleted organization it belonged to. held_by: databases in which something refers to it.
    is_customers: by its identity it was in use, or is kept.
    """

    role: str
    of: str | None
    held_by: list[str]
    is_customers: bool


def orphan_roles(installation: str) -> Iterator[OrphanRole]:
    """Orphan roles of the server, ordered by name.

    installation: this one's key. A role without an identity may be another installation's.
    """
    after = ""
    while True:
        rows = _rows(_ROLES, after=after, ours=ROLE_PATTERN)
        for role, of, held_by, comment in rows:
            identity = Identity.read(comment)
            if identity is not None and identity.installation == installation:
                is_customers = identity.state in CUSTOMERS
                yield OrphanRole(role, of, held_by, is_customers)
        if len(rows) < PAGE:
            return
        after = rows[-1][0]


_STOCK = """
SELECT kind, key, role_name, database_name, ready, d.oid IS NOT NULL,
    shobj_description(r.oid, 'pg_authid')
FROM (
    SELECT 'spare database' AS kind, key, role_name, database_name, ready FROM spare_databases
    UNION ALL SELECT 'template', key, role_name, database_name, ready FROM templates
) AS stock LEFT JOIN pg_database AS d ON d.datname = database_name::name
LEFT JOIN pg_roles AS r ON r.rolname = role_name::name ORDER BY 1, 4
"""


@dataclass(frozen=True, slots=True)
class Stock:
    """A template's or spare database's row, and its state on the server."""

    kind: str
    key: str
    role: str
    database: str
    is_ready: bool
    is_there: bool
    comment: str | None

    @property
    def expected(self) -> Expected:
        """What its row says about its identity."""
        return Expected(self.database, self.key, self.role, self.database, State.MADE)


def stock() -> list[Stock]:
    """All templates and spare databases."""
    return [Stock(*row) for row in _rows(_STOCK)]


# For a lock with one 64-bit key, the upper half is in classid, the lower in objid, and objsubid is
# 1 (PostgreSQL, "pg_locks").
_LOCKS = """
SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Locks:
    """A snapshot of the held advisory locks, taken without blocking anybody."""

    def __init__(self) -> None:
        self._numbers = {int(number) for (number,) in _rows(_LOCKS)}

    def hold(self, key: str) -> bool:
        """Whether the lock with this key is held."""
        return lock_number(key) in self._numbers


def application_role() -> str:
    """The application's role."""
    return str(_rows("SELECT current_user::text")[0][0])


def _rows(query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    everywhere: dict[str, Any] = {
        "page": PAGE,
        "deleted": Organization.Status.DELETED,
        "switching": Restore.State.SWITCHING,
    }
    with connections["default"].cursor() as cursor:
        cursor.execute(query, {**everywhere, **parameters})
        return list(cursor.fetchall())
