"""Finds organizations whose database and role are lost, such as all of them on a new server."""

from collections.abc import Collection

from django.db import connections

from organizations.errors import DatabaseThere
from organizations.models import Organization

# A database of a restore, which may be under way or killed, is not the organization's yet.
# Also by the key: a master older than the server may name a database replaced since.
_LOST = """
SELECT o.id FROM organizations AS o WHERE o.id = ANY(%s)
AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = o.role_name)
AND NOT EXISTS (
    SELECT FROM pg_database AS d WHERE d.datname = o.database_name
    AND NOT EXISTS (SELECT FROM spare_databases AS a WHERE a.database_name = d.datname))
AND NOT EXISTS (
    SELECT FROM pg_shdescription AS s WHERE s.classoid = 'pg_authid'::regclass
    AND CASE WHEN s.description IS JSON OBJECT THEN s.description::json ->> 'key' END = o.key)
"""


def among(ids: Collection[int]) -> set[int]:
    """Those whose database and role are both certainly not on the server, under any name."""
    with connections["default"].cursor() as cursor:
        cursor.execute(_LOST, [list(ids)])
        return {number for (number,) in cursor.fetchall()}


def require(organization: Organization) -> None:
    """Raise DatabaseThere unless its database and role are lost. The backup lock must be held, so
    that no other restore makes them."""
    if not among([organization.pk]):
        raise DatabaseThere(organization.name)
