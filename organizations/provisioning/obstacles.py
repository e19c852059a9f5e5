"""Finds what copies of a template would lose or wrongly share, and which migration made it.

CREATE DATABASE … TEMPLATE copies what is inside the database, and REASSIGN OWNED hands over what
its role owns. Rows are copied too, and are then the same in every organization, also keys, tokens
and UUIDs. What is kept outside the database, or names its role, is not copied. Each of these was
tried on PostgreSQL 18. Publications, extensions, schemas, grants on its own objects and comments
inside are copied.
"""

from dataclasses import asdict, dataclass
from typing import Any

from django.db import Error as DatabaseError
from django.db.migrations import Migration
from django.db.migrations.recorder import MigrationRecorder
from psycopg import sql

from organizations import tenancy
from organizations.tenancy import Tenant

# A migration sets this if its rows are meant to be the same in every organization.
DECLARATION = "same_for_every_organization"
ROWS = "rows"
_BY_A_RECEIVER = "a receiver of post_migrate"
_UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Obstacle:
    """migration: `app.name`. what: a noun phrase. table: for rows, its schema and name."""

    migration: str
    what: str
    table: tuple[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """As stored in an UncopyableSchema."""
        return asdict(self)

    @classmethod
    def of_json(cls, kept: dict[str, Any]) -> "Obstacle":
        """The reverse of as_json."""
        table = kept["table"]
        return cls(kept["migration"], kept["what"], table and (table[0], table[1]))


@dataclass(frozen=True)
class _Thing:
    """kind and what identify it. table: for rows, its schema and name."""

    kind: str
    what: str
    table: tuple[str, str] | None = None


class Watch:
    """Inspects a database before its first migration and after each, as its own role."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._first = self._last = self._look()
        self._blamed: dict[_Thing, str] = {}

    def after(self, migration: Migration) -> None:
        """Blame this migration for what has changed since the last look."""
        declared = bool(getattr(migration, DECLARATION, False))
        self._blame(f"{migration.app_label}.{migration.name}", excused=declared)

    def found(self) -> list[Obstacle]:
        """The obstacles at the end. Empty: a copy is complete."""
        self._blame(_BY_A_RECEIVER, excused=False)
        return [
            Obstacle(migration, f"{thing.kind}: {thing.what}", thing.table)
            for thing, migration in sorted(self._blamed.items(), key=lambda pair: pair[1])
        ]

    def _blame(self, migration: str, *, excused: bool) -> None:
        now = self._look()
        for thing in self._first.keys() | self._last.keys() | now.keys():
            value = now.get(thing)
            if value == self._first.get(thing):
                self._blamed.pop(thing, None)
            elif value != self._last.get(thing) and not (excused and thing.kind == ROWS):
                self._blamed[thing] = migration
        self._last = now

    def _look(self) -> dict[_Thing, str]:
        with tenancy.override(self._tenant), tenancy.connection().cursor() as cursor:
            cursor.execute(_BESIDE_ROWS)
            found = {_Thing(kind, what): value for kind, what, value in cursor.fetchall()}
            cursor.execute(_TABLES, [MigrationRecorder.Migration._meta.db_table])
            tables = cursor.fetchall()
        for schema, name in tables:
            thing = _Thing(ROWS, f"{schema}.{name}", (schema, name))
            if content := self._rows(schema, name):
                found[thing] = content
        return found

    def _rows(self, schema: str, name: str) -> str:
        """Their number and a hash of their content; empty if there are none."""
        # NULLs are ignored: adding an empty column changes no row.
        query = sql.SQL(
            "SELECT count(*), sum(hashtextextended(jsonb_strip_nulls(to_jsonb(t))::text, 0)) "
            "FROM {} AS t"
        ).format(sql.Identifier(schema, name))
        try:
            with (
                tenancy.override(self._tenant),
                tenancy.atomic(),
                tenancy.connection().cursor() as cursor,
            ):
                # Makes a policy that hides rows from their owner an error.
                cursor.execute("SET LOCAL row_security = off")
                cursor.execute(query.as_string())
                number, content = cursor.fetchone()
        except DatabaseError:
            return _UNREADABLE
        return f"{number} {content}" if number else ""


# Tables that were ever written to have a size. Extensions' tables are skipped.
_TABLES = """
SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'm') AND relname <> %s AND pg_relation_size(pg_class.oid) > 0
AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%%'
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
    AND objid = pg_class.oid AND deptype = 'e')
ORDER BY 1, 2
"""
# Rows (kind, what, value). pg_shdepend has everything that names a role, except grants to an
# object's owner; REASSIGN OWNED takes what is owned, except default privileges and user mappings.
_BESIDE_ROWS = """
WITH me AS (SELECT oid, rolname FROM pg_roles WHERE rolname = current_user),
db AS (SELECT * FROM pg_database WHERE datname = current_database()),
named AS (
    SELECT 'a function' AS what, prosrc AS text FROM pg_proc WHERE pronamespace > 16383
        OR pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'a default', pg_get_expr(adbin, adrelid) FROM pg_attrdef
    UNION ALL SELECT 'a view', pg_get_viewdef(oid) FROM pg_class
        WHERE relkind IN ('v', 'm') AND oid > 16383
    UNION ALL SELECT 'a check', pg_get_constraintdef(oid) FROM pg_constraint
        WHERE contype = 'c' AND oid > 16383
    UNION ALL SELECT 'a policy', concat(pg_get_expr(polqual, polrelid),
        pg_get_expr(polwithcheck, polrelid)) FROM pg_policy
    UNION ALL SELECT 'a trigger', pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'a comment', description FROM pg_description WHERE objoid > 16383
)
SELECT 'rows', 'large objects', concat(count(*), ' ', sum(hashtextextended(
        encode(lo_get(oid), 'hex'), 0))) FROM pg_largeobject_metadata HAVING count(*) > 0
UNION ALL SELECT CASE WHEN setrole = 0 THEN 'a setting of the database'
        WHEN setdatabase = 0 THEN 'a setting of its role'
        ELSE 'a setting of its role in the database' END, split_part(setting, '=', 1),
        setting
    FROM pg_db_role_setting, me, db, unnest(setconfig) AS setting
    WHERE setdatabase = db.oid OR setrole = me.oid
UNION ALL SELECT CASE deptype WHEN 'r' THEN 'a policy for its role'
        WHEN 'a' THEN 'a grant to its role' ELSE 'of its role alone' END,
        pg_describe_object(classid, objid, objsubid), deptype::text
    FROM pg_shdepend, me, db
    WHERE refclassid = 'pg_authid'::regclass AND refobjid = me.oid AND dbid IN (0, db.oid)
    AND (deptype <> 'o' OR classid IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass))
UNION ALL SELECT 'of another owner', pg_describe_object(classid, objid, objsubid), ''
    FROM pg_shdepend, me, db
    WHERE refclassid = 'pg_authid'::regclass AND refobjid <> me.oid AND dbid = db.oid
    AND deptype = 'o'
UNION ALL SELECT 'a membership of its role', roleid::regrole::text || ', ' ||
        member::regrole::text, concat(grantor, admin_option, inherit_option, set_option)
    FROM pg_auth_members, me WHERE me.oid IN (roleid, member, grantor)
UNION ALL SELECT 'of the database', 'CONNECTION LIMIT', datconnlimit::text FROM db
UNION ALL SELECT 'of the database', 'IS_TEMPLATE', datistemplate::text FROM db
UNION ALL SELECT 'of the database', 'its privileges', coalesce(datacl::text, '') FROM db
UNION ALL SELECT 'of the database', 'its owner', datdba::text FROM db
UNION ALL SELECT 'a comment', 'on the database', description FROM pg_shdescription, db
    WHERE classoid = 'pg_database'::regclass AND objoid = db.oid
UNION ALL SELECT 'a comment', 'on its role', description FROM pg_shdescription, me
    WHERE classoid = 'pg_authid'::regclass AND objoid = me.oid
UNION ALL SELECT 'a security label', provider, label FROM pg_shseclabel, me, db
    WHERE objoid IN (me.oid, db.oid)
UNION ALL SELECT 'a subscription', subname, '' FROM pg_subscription, db WHERE subdbid = db.oid
UNION ALL SELECT 'a replication slot', slot_name, '' FROM pg_replication_slots
    WHERE database = current_database()
UNION ALL SELECT 'a name that is written into', what, md5(text) FROM named, me, db
    WHERE strpos(text, me.rolname) > 0 OR strpos(text, db.datname) > 0
"""
