"""Finds organizations that share random values copied from an earlier template.

Compares the tables in which a migration leaves rows, by the values that look random: 16 characters
or more without a space and with a digit, but not a time. UUIDs, keys, tokens and hashes do; a
country's name does not, and it does not matter whether it is the same everywhere. A clone shares
them with its source and that one's other clones, on purpose.

The databases are untrusted: what is read is bounded, and timed by this side's clock.
"""

import hashlib
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import psycopg
from django.db.models import F
from psycopg import sql

from organizations.errors import OrganizationError
from organizations.models import Organization
from organizations.postgres.databases import settings_for
from organizations.provisioning.obstacles import Obstacle
from organizations.tenancy import Place, guard, time_limit

logger = logging.getLogger(__name__)

_PAGE = 500
_SECONDS = 5.0
# search_path: the organization cannot replace a function or operator that these use.
_OPTIONS = "-c search_path=pg_catalog -c statement_timeout=5s -c lock_timeout=2s"
# Oldest rows first: a migration's are older than the organization's own.
_VALUES = """
SELECT left(value, 200) FROM (
    SELECT to_jsonb(t) AS row FROM {} AS t ORDER BY ctid LIMIT 1000
) AS rows, jsonb_each_text(row)
WHERE value ~ '^[!-~]{{16,}}$' AND value ~ '[0-9]' AND value !~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T'
LIMIT 5000
"""


@dataclass(frozen=True)
class Twin:
    """An organization that shares values with another, copied from the template."""

    name: str
    other: str
    obstacle: Obstacle


def find(obstacles: Collection[Obstacle]) -> Iterator[Twin]:
    """Usable organizations that share a value in one of the obstacles' tables.

    One connection to each organization; unreadable ones are logged. Memory: 16 bytes per random
    value read.
    """
    tables = [each for each in obstacles if each.table is not None]
    # Who had it first: the name, and the family.
    first: dict[tuple[int, bytes], tuple[str, int]] = {}
    told: set[tuple[int, str]] = set()
    if not tables:
        return
    sources = _sources()
    for number, name, place in _organizations():
        family = number
        while family in sources:
            family = sources[family]
        for index, values in _read(number, place, tables):
            for digest in values:
                other, others = first.setdefault((index, digest), (name, family))
                if others == family:
                    continue
                for pair in ((name, other), (other, name)):
                    if (index, pair[0]) not in told:
                        told.add((index, pair[0]))
                        yield Twin(*pair, tables[index])


def _sources() -> dict[int, int]:
    """Of each clone, by its id, whose it is. Not only of usable ones: a clone can be a source."""
    # Without circles, which only ids that were given out again could make.
    clones = Organization.objects.filter(cloned_from__lt=F("pk"))
    return {pk: source or 0 for pk, source in clones.values_list("pk", "cloned_from")}


def _organizations() -> Iterator[tuple[int, str, Place]]:
    last = 0
    while True:
        page = list(
            Organization.objects.usable()
            .filter(pk__gt=last)
            .order_by("pk")
            .values_list("pk", "name", "database_name", "role_name", "sealed_password")[:_PAGE]
        )
        for number, name, database, role, sealed in page:
            yield number, name, Place(database, role, sealed)
        if len(page) < _PAGE:
            return
        last = page[-1][0]


def _read(
    number: int, place: Place, tables: Collection[Obstacle]
) -> Iterator[tuple[int, set[bytes]]]:
    """For each readable table, its index and the digests of its random values."""
    try:
        entry = settings_for(place, owner=place.database_name)
        parameters = {key: entry[key.upper()] for key in ("host", "port", "user", "password")}
        parameters |= {"dbname": entry["NAME"], **entry["OPTIONS"], "options": _OPTIONS}
        connection = guard.Connection.connect(
            **{key: value for key, value in parameters.items() if value not in ("", None)},
            autocommit=True,
        )
        try:
            for index, each in enumerate(tables):
                yield index, _values(connection, each.table or ("", ""))
        finally:
            connection.close()
    except (psycopg.Error, OrganizationError) as error:
        logger.warning("rows not compared", extra={"organization": number}, exc_info=error)


def _values(connection: guard.Connection, table: tuple[str, str]) -> set[bytes]:
    query = sql.SQL(_VALUES).format(sql.Identifier(*table))
    try:
        with time_limit(_SECONDS):
            rows = connection.execute(query).fetchall()
    except psycopg.ProgrammingError:
        # A missing table, or something that is not a table, has no rows of the template.
        return set()
    return {hashlib.sha256(str(value).encode()).digest()[:16] for (value,) in rows}
