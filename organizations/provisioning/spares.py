"""Spare databases: created ahead with role and tables; a sign-up takes one by renaming it.

The application's role stays a member of a spare's role until it is taken: renaming a database
requires its owner's rights, inside the transaction that takes it.
"""

import logging
import time
from collections import Counter
from datetime import timedelta

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone
from psycopg import sql

from organizations.errors import FilesKept
from organizations.models import Organization, Server, SpareDatabase, Template
from organizations.naming import RESERVED_PREFIX
from organizations.postgres import databases as database
from organizations.postgres import identity
from organizations.postgres.identity import Expected, Identity
from organizations.postgres.sessions import ServerSession
from organizations.tenancy import storage

from . import code, media, templates

logger = logging.getLogger(__name__)

# Lock held while one is made or dropped. No organization has this key.
LOCK = "\x00spares"
# The fingerprint of a throw-away database (scratch.py), which is never handed out.
SCRATCH = ""
# The NOTIFY channel used when one is taken.
CHANNEL = "orgmgmt_spares"
# How long spares of other code are kept after that code was last used:
# during a deploy, and after a rollback, two versions work side by side.
KEPT_UNUSED = timedelta(hours=4)

_SPARE_AT_FAULT = (
    psycopg.errors.InvalidCatalogName,
    psycopg.errors.UndefinedObject,
    psycopg.errors.InsufficientPrivilege,
)
_PASSING = (psycopg.errors.ObjectInUse, psycopg.errors.DuplicateDatabase)


def drop(session: ServerSession, spare: SpareDatabase) -> bool:
    """Drop it, unless it was taken meanwhile. The lock must be held.

    If an organization unknown to this master has it, only the row is deleted. Raises DatabaseKept
    if it must be kept for another reason, and FilesKept.
    """
    # From here on nobody can take it. A process that is taking it holds the row: this waits for it.
    if not SpareDatabase.objects.filter(pk=spare.pk).update(ready=False):
        return False
    found = identity.find(session, role=spare.role_name, database=spare.database_name)
    is_elsewhere = found.oid is None and found.has_role and found.identity is None
    if is_elsewhere or (found.identity and found.identity.state != identity.State.MADE):
        logger.error("spare database is an organization's", extra={"spare": spare.pk})
        SpareDatabase.objects.filter(pk=spare.pk).delete()
        return False
    database.drop(session, identity.certain(session, expected(spare)))
    # Only a scratch for a restore has files; a verification's has a name of the system's. A restore
    # beside gives it to an organization, with its key.
    can_have_files = spare.fingerprint == SCRATCH and not (
        spare.database_name.startswith(RESERVED_PREFIX) or _is_taken(spare.key)
    )
    if can_have_files and not (media.is_here() and storage.remove(spare.key)):
        raise FilesKept(spare)  # Its row stays, for a host that has them.
    SpareDatabase.objects.filter(pk=spare.pk).delete()
    return True


def _is_taken(key: str) -> bool:
    return Organization.objects.filter(key=key).exists() or key in identity.living_keys()


def expected(spare: SpareDatabase) -> Expected:
    """What its row says about it."""
    return Expected(
        f"the spare database {spare.database_name}",
        spare.key,
        spare.role_name,
        spare.database_name,
        identity.State.MADE,
    )


def scratch_lock(key: str) -> str:
    """The lock held while a throw-away database is worked in; `key` is its row's."""
    return f"\x00scratch:{key}"


def surplus() -> list[SpareDatabase]:
    """Those to drop: half made, beyond ORG_SPARE_DATABASES, or of unused code. Without throw-away
    databases."""
    used = {code.current().fingerprint, *_lately_used()}
    kept: Counter[str] = Counter()
    found = []
    for spare in SpareDatabase.objects.exclude(fingerprint=SCRATCH).order_by("pk"):
        kept[spare.fingerprint] += spare.ready
        is_one_of_them = kept[spare.fingerprint] <= settings.ORG_SPARE_DATABASES
        if not (spare.ready and spare.fingerprint in used and is_one_of_them):
            found.append(spare)
    return found


def _lately_used() -> set[str]:
    """Fingerprints used in the last hours to make or copy something."""
    since = timezone.now() - KEPT_UNUSED
    made = SpareDatabase.objects.filter(created_at__gt=since)
    copied = Template.objects.filter(used_at__gt=since)
    return {
        *made.values_list("fingerprint", flat=True),
        *copied.values_list("fingerprint", flat=True),
    }


def note_use() -> None:
    """Record occasionally that this code is in use, for processes with other code."""
    global _noted_at
    if time.monotonic() - _noted_at < _NOTED_EVERY_SECONDS:
        return
    _noted_at = time.monotonic()
    templates.note_use()


_NOTED_EVERY_SECONDS = 600.0
_noted_at = -_NOTED_EVERY_SECONDS


def missing() -> int:
    """How many of this code are missing; none if its migrations cannot make a database."""
    if code.problem():
        return 0
    ready = SpareDatabase.objects.filter(fingerprint=code.current().fingerprint, ready=True)
    return max(0, int(settings.ORG_SPARE_DATABASES) - ready.count())


def is_at_fault(spare: SpareDatabase, error: DatabaseError) -> bool:
    """Whether this spare could not be handed out. If it never can be, it is not offered again."""
    if not isinstance(error.__cause__, _SPARE_AT_FAULT + _PASSING):
        return False
    logger.warning("spare database not usable", extra={"spare": spare.pk}, exc_info=error)
    if isinstance(error.__cause__, _SPARE_AT_FAULT):
        SpareDatabase.objects.filter(database_name=spare.database_name).update(ready=False)
    return True


def notify_taken() -> None:
    """NOTIFY after the commit. A failure does not matter: any organization can fill the server's
    queue, and the refill also polls once a second."""
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute(sql.SQL("NOTIFY {}").format(sql.Identifier(CHANNEL)).as_string())
    except DatabaseError as error:
        logger.warning("refill not notified", exc_info=error)


def choose(session: ServerSession) -> SpareDatabase | None:
    """A usable one that nobody else has chosen. Its row is locked by the caller's transaction."""
    found = _unlocked()
    return found if found is not None and _is_ours(session, found) else None


def _unlocked() -> SpareDatabase | None:
    """One without sessions: a rename would wait 5 s for them."""
    query = (
        "SELECT s.*, (SELECT shobj_description(r.oid, 'pg_authid') FROM pg_roles AS r "
        "WHERE r.rolname = s.role_name) AS comment FROM spare_databases AS s "
        "JOIN servers ON servers.id = s.server_id "
        "WHERE s.ready AND s.fingerprint = %s AND servers.name = %s AND NOT EXISTS "
        "(SELECT FROM pg_stat_activity AS a WHERE a.datname = s.database_name) "
        "ORDER BY s.id LIMIT 1 FOR UPDATE OF s SKIP LOCKED"
    )
    found = SpareDatabase.objects.raw(query, [code.current().fingerprint, Server.DEFAULT])
    return next(iter(found), None)


def _is_ours(session: ServerSession, spare: SpareDatabase) -> bool:
    """Whether its role's identity confirms it. If not, it is not offered again."""
    found = Identity.read(spare.comment)  # type: ignore[attr-defined]
    why = identity.disagreement(found, expected(spare), installation=session.installation)
    if why:
        logger.error("spare database not usable", extra={"spare": spare.pk, "why": why})
        SpareDatabase.objects.filter(pk=spare.pk).update(ready=False)
    return not why


def hand_out(session: ServerSession, spare: SpareDatabase, database: str) -> None:
    """Rename it, delete its row and end the application's membership, in the transaction that chose
    it."""
    spare.delete()
    role, me = sql.Identifier(spare.role_name), sql.Identifier(session.user)
    statements = [
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
            sql.Identifier(spare.database_name), sql.Identifier(database)
        ),
    ]
    if not session.is_superuser:
        revoke = sql.SQL("REVOKE {} FROM {} GRANTED BY {}")
        statements.append(revoke.format(role, me, me))
    with connections["default"].cursor() as cursor:
        cursor.execute(sql.SQL("; ").join(statements).as_string())
